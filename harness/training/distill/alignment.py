"""Which tokens of one answer, written in two formats, predict the same thing.

The words of an answer are the same in every format; its tokens are not. One format puts a space before the
first word, another tokenises the last full stop together with its closing mark. So positions are
matched by characters: two tokens are paired when they begin behind the same characters of the words, because then both
models have read the same words and are asked what comes next. The next token itself may differ.

The same first word with another lead: ``Oslo`` behind a newline is ``·Oslo`` behind a colon.

A belief about the first token of an answer is carried from one format to another by writing every token of the vocabulary
anew: its text less the one lead, behind the other, and of that the first token. Between formats with the same
lead nothing changes.

The conversations of a run in the model's native format, and how each example's tokens lie beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.formats.render import adapt_to_format, render
from harness.records import Conversation, Encoded, Format, Rendered
from harness.tokens.encode import bos_text, encode, eos_text, first_ids, texts_of, token_spans

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from harness.training.data.examples import Example

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
class AnswerTokens:
    """One answer as a format writes it: its words without outer white space, what is trained before them, and its tokens."""

    words: str
    lead: str
    tokens: tuple[AnswerToken, ...]

    def before(self, token: AnswerToken) -> str:
        """The characters of ``token`` that stand before the words."""
        return self.lead[len(self.lead) + token.start :] if token.start < 0 else ""


class TokenPair(NamedTuple):
    """Indices into the tokens of two answers that are asked the same question."""

    first: int
    second: int
    place: Place


def answers_of(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> dict[int, AnswerTokens]:
    """The trained answers of a rendered conversation by message. One without words, or with foreign text among them, is left out."""
    tokens: dict[int, list[AnswerToken]] = {}
    for index, token in enumerate(token_spans(rendered, tokenizer)):
        if token.trained and index:
            tokens.setdefault(token.message, []).append(
                AnswerToken(index, token.id, token.start, token.end)
            )
    found = {}
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
            lead = rendered.text[min(begin, trained[0].start) : begin]
            found[message] = AnswerTokens(
                words,
                lead,
                tuple(t._replace(start=t.start - begin, end=t.end - begin) for t in trained),
            )
    return found


def align(first: AnswerTokens, second: AnswerTokens) -> list[TokenPair]:
    """The pairs of two writings of one answer, in order. None where the words differ."""
    if first.words != second.words:
        return []
    size = len(first.words)
    theirs = {key: at for at, key in _keys(second.tokens)}
    pairs = []
    opened = _opening(first), _opening(second)
    if None not in opened:
        pairs.append(TokenPair(opened[0] or 0, opened[1] or 0, "opening"))
    for key, at in {key: at for at, key in _keys(first.tokens)}.items():
        if key in theirs and key > (0, ()) and key[0] <= size:
            pairs.append(TokenPair(at, theirs[key], "stop" if key[0] == size else "inside"))
    return pairs


def _opening(answer: AnswerTokens) -> int | None:
    """The token that holds the first character of the words."""
    return next(
        (at for at, token in enumerate(answer.tokens) if token.start <= 0 < token.end), None
    )


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
    return {
        index: place
        for place, index in enumerate(
            index for index, trained in enumerate(encoded.trained) if trained and index
        )
    }


#: What cannot be written behind the other lead: tokens that do not begin with their own.
LEFT_OUT = -1
_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"


@lru_cache(maxsize=64)
def translation(
    tokenizer: PreTrainedTokenizerBase, size: int, lead: str, other: str
) -> torch.Tensor:
    """For each id of a token that opens an answer behind ``lead``, the id that opens it behind ``other``; long [size].

    ``size`` is the width of the logits. A control token keeps its id: it is no word, and what ends an answer is
    mapped by who knows both stops. A piece that is no whole character is joined by its spelling in the
    vocabulary, and where there is no such joint piece the answer begins with the other lead itself.
    """
    import torch

    table = torch.arange(size)
    if lead == other:
        return table
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    words = [id for id in range(min(size, len(tokenizer))) if id not in special]
    texts = texts_of(words, tokenizer)
    kept = [
        (id, other + text[len(lead) :])
        for id, text in zip(words, texts, strict=True)
        if _whole(text) and text.startswith(lead) and text != lead
    ]
    if lead:
        table[words] = LEFT_OUT
    if kept:
        table[[id for id, _ in kept]] = torch.tensor(
            first_ids([text for _, text in kept], tokenizer)
        )
    if not lead:
        broken = [id for id, text in zip(words, texts, strict=True) if not _whole(text)]
        _join_bytes(table, tokenizer, broken, other)
    return table


def _whole(text: str) -> bool:
    return _UNDECODABLE not in text


def _join_bytes(
    table: torch.Tensor, tokenizer: PreTrainedTokenizerBase, ids: list[int], lead: str
) -> None:
    """Pieces of a character: lead and piece as one piece of the vocabulary, or else the lead's first token."""
    [opened] = first_ids([lead], tokenizer)
    spelling = tokenizer.convert_ids_to_tokens(opened)
    vocabulary = tokenizer.get_vocab()
    for id, piece in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        table[id] = vocabulary.get(spelling + piece, opened)


@dataclass(frozen=True, slots=True)
class AlignedAnswer:
    """One answer of an example beside the same answer in the native format. ``control`` says that the native stop is a control token."""

    drawn: AnswerTokens
    native: AnswerTokens
    pairs: tuple[TokenPair, ...]
    stop: TokenPair | None
    control: bool

    @property
    def stop_ids(self) -> tuple[int, int] | None:
        """What ends the answer: the first token of the drawn format's stop, and that of the native one."""
        return (
            (self.drawn.tokens[self.stop.first].id, self.native.tokens[self.stop.second].id)
            if self.stop
            else None
        )

    def ends_at(self, pair: TokenPair) -> bool:
        """Whether the native stop's probability at this pair is that of ending: a control token says nothing else, text may."""
        return self.control or pair.place == "stop"

    def leads(self, pair: TokenPair) -> tuple[str, str]:
        """What stands before the words in the opening token, natively and drawn."""
        return self.native.before(self.native.tokens[pair.second]), self.drawn.before(
            self.drawn.tokens[pair.first]
        )

    def written(self, pair: TokenPair, tokenizer: PreTrainedTokenizerBase, size: int) -> int:
        """The native row's next token as the drawn format writes it."""
        id = self.native.tokens[pair.second].id
        if pair.place == "stop" and self.stop_ids:
            return self.stop_ids[0]
        return (
            int(translation(tokenizer, size, *self.leads(pair))[id])
            if pair.place == "opening"
            else id
        )

    def rows(
        self, pairs: Sequence[TokenPair], drawn: Encoded, native: Encoded
    ) -> tuple[list[int], list[int]]:
        """The rows of both sides' supervised logits that the pairs stand for."""
        ours, theirs = places(drawn), places(native)
        return [ours[self.drawn.tokens[pair.first].at] for pair in pairs], [
            theirs[self.native.tokens[pair.second].at] for pair in pairs
        ]


class NativeRows:
    """Renders conversations natively when they are first asked for, and aligns examples with them."""

    def __init__(
        self,
        conversations: Sequence[Conversation],
        native: Format,
        formats: Sequence[Format],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.native = native
        self.tokenizer = tokenizer
        self.conversations = {
            conversation.id: conversation
            for conversation in conversations
            if not conversation.plain
        }
        self._formats = {format.id: format for format in formats}
        self._special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        self._bos, self._eos = bos_text(tokenizer), eos_text(tokenizer)
        self._answers: dict[str, dict[int, AnswerTokens]] = {}
        self._beside: dict[tuple[str, str], list[AlignedAnswer]] = {}

    def encoded(self, id: str) -> Encoded:
        """A conversation as its native row."""
        return encode(self._rendered(id, self.native), self.tokenizer)

    def aligned(self, example: Example) -> list[AlignedAnswer]:
        """The example's answers that the native row holds too, in order."""
        key = (example.conversation, example.format)
        if example.conversation not in self.conversations:
            return []
        if key not in self._beside:
            self._beside[key] = list(self._align(*key))
        return self._beside[key]

    def _align(self, id: str, format: str) -> list[AlignedAnswer]:
        if id not in self._answers:
            self._answers[id] = self._answers_in(id, self.native)
        natively = self._answers[id]
        found = []
        for number, drawn in self._answers_in(id, self._formats[format]).items():
            native = natively.get(number)
            pairs = align(drawn, native) if native else []
            if native and pairs:
                stop = next((pair for pair in pairs if pair.place == "stop"), None)
                found.append(
                    AlignedAnswer(
                        drawn,
                        native,
                        tuple(pairs),
                        stop,
                        stop is not None and native.tokens[stop.second].id in self._special,
                    )
                )
        return found

    def _answers_in(self, id: str, format: Format) -> dict[int, AnswerTokens]:
        """The answers by their number, since a format that merges the system prompt into a question shifts the messages."""
        conversation = adapt_to_format(self.conversations[id], format)
        numbers = {
            at: number
            for number, at in enumerate(
                at
                for at, message in enumerate(conversation.messages)
                if message.role == "assistant"
            )
        }
        return {
            numbers[message]: answer
            for message, answer in answers_of(self._rendered(id, format), self.tokenizer).items()
        }

    def _rendered(self, id: str, format: Format) -> Rendered:
        return render(
            adapt_to_format(self.conversations[id], format), format, bos_token=self._bos, eos_token=self._eos
        )
