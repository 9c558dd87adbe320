"""The conversations of a run in the model's native format, and how each example's tokens lie beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.encode import bos_text, encode, eos_text
from harness.records import Conversation, Encoded, Format, Rendered
from harness.render import fitted, render
from harness.train.alignment import Answer, Pair, align, answers_of, places
from harness.train.translation import translation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.train.examples import Example


@dataclass(frozen=True, slots=True)
class Beside:
    """One answer of an example beside the same answer in the native format. ``control`` says that the native stop is a control token."""

    drawn: Answer
    native: Answer
    pairs: tuple[Pair, ...]
    stop: Pair | None
    control: bool

    @property
    def stop_ids(self) -> tuple[int, int] | None:
        """What ends the answer: the first token of the drawn format's stop, and that of the native one."""
        return (self.drawn.tokens[self.stop.first].id, self.native.tokens[self.stop.second].id) if self.stop else None

    def ends_at(self, pair: Pair) -> bool:
        """Whether the native stop's probability at this pair is that of ending: a control token says nothing else, text may."""
        return self.control or pair.place == "stop"

    def leads(self, pair: Pair) -> tuple[str, str]:
        """What stands before the words in the opening token, natively and drawn."""
        return self.native.before(self.native.tokens[pair.second]), self.drawn.before(self.drawn.tokens[pair.first])

    def written(self, pair: Pair, tokenizer: PreTrainedTokenizerBase, size: int) -> int:
        """The native row's next token as the drawn format writes it."""
        id = self.native.tokens[pair.second].id
        if pair.place == "stop" and self.stop_ids:
            return self.stop_ids[0]
        return int(translation(tokenizer, size, *self.leads(pair))[id]) if pair.place == "opening" else id

    def rows(self, pairs: Sequence[Pair], drawn: Encoded, native: Encoded) -> tuple[list[int], list[int]]:
        """The rows of both sides' supervised logits that the pairs stand for."""
        ours, theirs = places(drawn), places(native)
        return [ours[self.drawn.tokens[pair.first].at] for pair in pairs], [theirs[self.native.tokens[pair.second].at] for pair in pairs]


class NativeRows:
    """Renders conversations natively when they are first asked for, and aligns examples with them."""

    def __init__(self, conversations: Sequence[Conversation], native: Format, formats: Sequence[Format], tokenizer: PreTrainedTokenizerBase) -> None:
        self.native = native
        self.tokenizer = tokenizer
        self.conversations = {conversation.id: conversation for conversation in conversations if not conversation.plain}
        self._formats = {format.id: format for format in formats}
        self._special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        self._bos, self._eos = bos_text(tokenizer), eos_text(tokenizer)
        self._answers: dict[str, dict[int, Answer]] = {}
        self._beside: dict[tuple[str, str], list[Beside]] = {}

    def encoded(self, id: str) -> Encoded:
        """A conversation as its native row."""
        return encode(self._rendered(id, self.native), self.tokenizer)

    def beside(self, example: Example) -> list[Beside]:
        """The example's answers that the native row holds too, in order."""
        key = (example.conversation, example.format)
        if example.conversation not in self.conversations:
            return []
        if key not in self._beside:
            self._beside[key] = list(self._align(*key))
        return self._beside[key]

    def _align(self, id: str, format: str) -> list[Beside]:
        if id not in self._answers:
            self._answers[id] = self._answers_in(id, self.native)
        natively = self._answers[id]
        found = []
        for number, drawn in self._answers_in(id, self._formats[format]).items():
            native = natively.get(number)
            pairs = align(drawn, native) if native else []
            if native and pairs:
                stop = next((pair for pair in pairs if pair.place == "stop"), None)
                found.append(Beside(drawn, native, tuple(pairs), stop, stop is not None and native.tokens[stop.second].id in self._special))
        return found

    def _answers_in(self, id: str, format: Format) -> dict[int, Answer]:
        """The answers by their number, since a format that merges the system prompt into a question shifts the messages."""
        conversation = fitted(self.conversations[id], format)
        numbers = {at: number for number, at in enumerate(at for at, message in enumerate(conversation.messages) if message.role == "assistant")}
        return {numbers[message]: answer for message, answer in answers_of(self._rendered(id, format), self.tokenizer).items()}

    def _rendered(self, id: str, format: Format) -> Rendered:
        return render(fitted(self.conversations[id], format), format, bos_token=self._bos, eos_token=self._eos)
