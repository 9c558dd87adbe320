"""Which tokens of one answer, written in two formats, predict the same thing.

The words of an answer are the same in every format; its tokens are not. One format puts a space
before the first word, another tokenises the last full stop together with its end mark. So positions
are matched by characters: two tokens are paired when they begin after the same characters of the
words, because then both models have read the same words and predict what comes next. The next token
itself may differ.

The same first word has another token after other leading whitespace: ``Oslo`` after a newline is
``·Oslo`` after a colon. ``opening_table`` translates between the two for the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.records import Encoded, Rendered
from harness.tokens.encode import first_ids, texts_of, token_spans

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


#: The first token of the words, a later one, the first token of the stop.
Place = Literal["opening", "inside", "stop"]


class AnswerToken(NamedTuple):
    """A trained token of an answer.

    ``at`` is its index in the row's ids. ``start`` and ``end`` count characters from the first of
    the words: ``start`` is negative in leading whitespace, ``end`` exceeds their length in the
    stop.
    """

    at: int
    id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """One answer as a format writes it: its words without outer whitespace, and its tokens.

    ``leading`` is the whitespace before the words that is trained.
    """

    words: str
    leading: str
    tokens: tuple[AnswerToken, ...]

    def leading_in(self, token: AnswerToken) -> str:
        """The leading whitespace that ``token`` holds."""
        return self.leading[len(self.leading) + token.start :] if token.start < 0 else ""


class TokenPair(NamedTuple):
    """Indices into the tokens of two answers that predict the same thing."""

    first: int
    second: int
    place: Place


def answers_of(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> dict[int, AnswerTokens]:
    """The words of the trained answers of a rendered conversation, by message.

    The thought before them and the calls behind them are left out, since formats write these in
    different texts; where a call follows, the words have no stop. An answer without words, or with
    text of the format among them, is left out.
    """
    places = _words(rendered)
    tokens: dict[int, list[AnswerToken]] = {}
    for index, token in enumerate(token_spans(rendered, tokenizer)):
        begin, end = places.get(token.message, (0, len(rendered.text)))
        if token.trained and index and begin <= token.start < end:
            tokens.setdefault(token.message, []).append(
                AnswerToken(index, token.id, token.start, token.end)
            )
    answers = {}
    for message, trained in tokens.items():
        spans = [
            span
            for span in rendered.spans
            if span.kind == "content" and span.trained and span.message == message
        ]
        if not spans or any(a.end != b.start for a, b in pairwise(spans)):
            continue
        whole = rendered.text[spans[0].start : spans[-1].end]
        words = whole.strip()
        if words:
            begin = spans[0].start + len(whole) - len(whole.lstrip())
            leading = rendered.text[min(begin, trained[0].start) : begin]
            answers[message] = AnswerTokens(
                words,
                leading,
                tuple(t._replace(start=t.start - begin, end=t.end - begin) for t in trained),
            )
    return answers


def _words(rendered: Rendered) -> dict[int, tuple[int, int]]:
    """By message, where its thought ends, be it empty, and its words if a call follows."""
    places: dict[int, tuple[int, int]] = {}
    for span in rendered.spans:
        if span.message >= 0 and span.trained and span.kind in ("reasoning", "glue", "call"):
            begin, end = places.get(span.message, (0, len(rendered.text)))
            if span.kind != "call":
                marks = rendered.text[span.start : span.end].rstrip()
                begin = span.start + len(marks) if marks else begin
            elif end == len(rendered.text):
                behind = rendered.text[: span.start]
                end = len(behind.rstrip())
            places[span.message] = (begin, end)
    return places


def align(first: AnswerTokens, second: AnswerTokens) -> list[TokenPair]:
    """The pairs of two writings of one answer, in order; none where the words differ."""
    if first.words != second.words:
        return []
    size = len(first.words)
    second_at = {key: at for at, key in _contexts(second.tokens)}
    pairs = []
    openings = _opening(first), _opening(second)
    if openings[0] is not None and openings[1] is not None:
        pairs.append(TokenPair(openings[0], openings[1], "opening"))
    for key, at in {key: at for at, key in _contexts(first.tokens)}.items():
        if key in second_at and key > (0, ()) and key[0] <= size:
            pairs.append(TokenPair(at, second_at[key], "stop" if key[0] == size else "inside"))
    return pairs


def _opening(answer: AnswerTokens) -> int | None:
    """The token that holds the first character of the words."""
    return next(
        (at for at, token in enumerate(answer.tokens) if token.start <= 0 < token.end), None
    )


def _contexts(tokens: Sequence[AnswerToken]) -> Iterator[tuple[int, tuple[int, tuple[int, ...]]]]:
    """(index, what was read before it): the characters, and the ids of a partly read character.

    A token that shares its character with the one before it follows a part of that character:
    another tokenisation has read the same only after the same ids.
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


def logit_rows(encoded: Encoded) -> dict[int, int]:
    """Index in a row → which of the row's trained tokens that is: the row of its logits."""
    trained = [at for at, is_trained in enumerate(encoded.trained) if is_trained and at]
    return {index: row for row, index in enumerate(trained)}


#: Marks tokens that cannot follow the other whitespace: those that do not begin with their own.
LEFT_OUT = -1
_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"


@lru_cache(maxsize=64)
def opening_table(
    tokenizer: PreTrainedTokenizerBase, size: int, leading: str, other: str
) -> torch.Tensor:
    """Id of a token that opens an answer after ``leading`` → id that opens it after ``other``.

    A long tensor [size]; ``size`` is the width of the logits. A token's text, less the one leading
    whitespace and after the other, is tokenised, and its first token is taken. A control token
    keeps its id: it is not a word, and stops are mapped elsewhere. A piece of a character is joined
    by its spelling in the vocabulary; where there is no such joint piece, the answer begins with
    ``other``.
    """
    import torch

    table = torch.arange(size)
    if leading == other:
        return table
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    words = [at for at in range(min(size, len(tokenizer))) if at not in special]
    texts = texts_of(words, tokenizer)
    translatable = [
        (at, other + text[len(leading) :])
        for at, text in zip(words, texts, strict=True)
        if _is_whole(text) and text.startswith(leading) and text != leading
    ]
    if leading:
        table[words] = LEFT_OUT
    if translatable:
        first = first_ids([text for _, text in translatable], tokenizer)
        table[[at for at, _ in translatable]] = torch.tensor(first)
    if not leading:
        pieces = [at for at, text in zip(words, texts, strict=True) if not _is_whole(text)]
        _join_pieces(table, tokenizer, pieces, other)
    return table


def _is_whole(text: str) -> bool:
    return _UNDECODABLE not in text


def _join_pieces(
    table: torch.Tensor, tokenizer: PreTrainedTokenizerBase, ids: list[int], leading: str
) -> None:
    """Pieces of a character: whitespace and piece as one token, or else the whitespace's first."""
    [opening] = first_ids([leading], tokenizer)
    spelling = tokenizer.convert_ids_to_tokens(opening)
    vocabulary = tokenizer.get_vocab()
    for at, piece in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        table[at] = vocabulary.get(spelling + piece, opening)


@dataclass(frozen=True, slots=True)
class AlignedAnswer:
    """One answer of an example, and the same answer in the native format."""

    student: AnswerTokens
    native: AnswerTokens
    pairs: tuple[TokenPair, ...]
    stop: TokenPair | None
    control: bool
    """Whether the native stop is a control token."""

    @property
    def stop_ids(self) -> tuple[int, int] | None:
        """What ends the answer: the first token of the student's stop, and of the native one."""
        if self.stop is None:
            return None
        student, native = self.student.tokens, self.native.tokens
        return student[self.stop.first].id, native[self.stop.second].id

    def may_stop(self, pair: TokenPair) -> bool:
        """Whether the probability of the native stop at this pair is that of ending the answer.

        A control token has no other meaning; text may have one before the end of the words.
        """
        return self.control or pair.place == "stop"

    def leading(self, pair: TokenPair) -> tuple[str, str]:
        """The leading whitespace in the opening tokens: native, student."""
        native, student = self.native.tokens[pair.second], self.student.tokens[pair.first]
        return self.native.leading_in(native), self.student.leading_in(student)

    def expected_id(self, pair: TokenPair, tokenizer: PreTrainedTokenizerBase, size: int) -> int:
        """The native row's next token as the student's format writes it."""
        native = self.native.tokens[pair.second].id
        if pair.place == "stop" and self.stop_ids:
            return self.stop_ids[0]
        if pair.place == "opening":
            return int(opening_table(tokenizer, size, *self.leading(pair))[native])
        return native

    def rows(
        self, pairs: Sequence[TokenPair], student: Encoded, native: Encoded
    ) -> tuple[list[int], list[int]]:
        """The rows of the pairs in both sides' supervised logits."""
        student_rows, native_rows = logit_rows(student), logit_rows(native)
        return (
            [student_rows[self.student.tokens[pair.first].at] for pair in pairs],
            [native_rows[self.native.tokens[pair.second].at] for pair in pairs],
        )
