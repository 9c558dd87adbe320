"""Which tokens of one answer, written in two formats, predict the same thing.

The words of an answer are the same in every format; its tokens are not. One format puts a space before the
first word, another tokenises the last full stop together with its closing mark. So positions are
matched by characters: two tokens are paired when they begin behind the same characters of the words, because then both
models have read the same words and are asked what comes next. The next token itself may differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.encode import token_spans
from harness.records import Encoded, Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: The first token of the words, a later one, the first token of the stop.
Place = Literal["opening", "inside", "stop"]


class AnswerToken(NamedTuple):
    """A trained token: where it stands in the row's ids, its id, and its characters counted from the first of the words.

    ``start`` is negative where the format's own white space stands before the words; ``end`` exceeds their length in the stop.
    """

    at: int
    id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as a format writes it: its words without outer white space, what is trained before them, and its tokens."""

    words: str
    lead: str
    tokens: tuple[AnswerToken, ...]

    def before(self, token: AnswerToken) -> str:
        """The characters of ``token`` that stand before the words."""
        return self.lead[len(self.lead) + token.start :] if token.start < 0 else ""


class Pair(NamedTuple):
    """Indices into the tokens of two answers that are asked the same question."""

    first: int
    second: int
    place: Place


def answers_of(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> dict[int, Answer]:
    """The trained answers of a rendered conversation by message. One without words, or with foreign text among them, is left out."""
    tokens: dict[int, list[AnswerToken]] = {}
    for index, token in enumerate(token_spans(rendered, tokenizer)):
        if token.trained and index:
            tokens.setdefault(token.message, []).append(AnswerToken(index, token.id, token.start, token.end))
    found = {}
    for message, trained in tokens.items():
        spans = [span for span in rendered.spans if span.kind == "content" and span.trained and span.message == message]
        if not spans or any(a.end != b.start for a, b in pairwise(spans)):
            continue
        whole = rendered.text[spans[0].start : spans[-1].end]
        words = whole.strip()
        if words:
            begin = spans[0].start + len(whole) - len(whole.lstrip())
            lead = rendered.text[min(begin, trained[0].start) : begin]
            found[message] = Answer(words, lead, tuple(t._replace(start=t.start - begin, end=t.end - begin) for t in trained))
    return found


def align(first: Answer, second: Answer) -> list[Pair]:
    """The pairs of two writings of one answer, in order. None where the words differ."""
    if first.words != second.words:
        return []
    size = len(first.words)
    theirs = {key: at for at, key in _keys(second.tokens)}
    pairs = []
    opened = _opening(first), _opening(second)
    if None not in opened:
        pairs.append(Pair(opened[0] or 0, opened[1] or 0, "opening"))
    for key, at in {key: at for at, key in _keys(first.tokens)}.items():
        if key in theirs and key > (0, ()) and key[0] <= size:
            pairs.append(Pair(at, theirs[key], "stop" if key[0] == size else "inside"))
    return pairs


def _opening(answer: Answer) -> int | None:
    """The token that holds the first character of the words."""
    return next((at for at, token in enumerate(answer.tokens) if token.start <= 0 < token.end), None)


def _keys(tokens: Sequence[AnswerToken]) -> Iterator[tuple[int, tuple[int, tuple[int, ...]]]]:
    """(index, what has been read before it): the characters, and the ids of a character of which only some bytes were read.

    A token that shares its character with the one before it has read part of that character: another
    tokenisation has read the same only after the same ids.
    """
    read = 0
    inside: tuple[int, ...] = ()
    for at, token in enumerate(tokens):
        if token.start >= read:
            inside = ()
            yield at, (token.start, inside)
        else:
            inside = (*inside, tokens[at - 1].id)
            yield at, (token.start, inside)
        read = max(read, token.end)


def places(encoded: Encoded) -> dict[int, int]:
    """Index in a row → which of the row's trained tokens that is: the row of its logits."""
    return {index: place for place, index in enumerate(index for index, trained in enumerate(encoded.trained) if trained and index)}
