"""The rows of a run in the native format, and their answers aligned with those of the examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.conversation import Conversation
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.records import Encoded, Format, Rendered
from harness.tokens.encode import bos_text, encode, eos_text
from harness.training.distill.alignment import AlignedAnswer, AnswerTokens, align, answers_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.training.data.examples import Example
    from harness.training.data.forged_turns import ForgedTurns


class NativeRows:
    """The conversations of a run in the native format, each aligned with its examples.

    Conversations are rendered when they are first asked for. ``forged`` are the forged turns of the
    examples; the native rows have none.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        native: Format,
        formats: Sequence[Format],
        tokenizer: PreTrainedTokenizerBase,
        forged: ForgedTurns | None = None,
    ) -> None:
        self.native = native
        self.tokenizer = tokenizer
        self.conversations = {c.id: c for c in conversations if not c.plain}
        self._formats = {trained.id: trained for trained in formats}
        self._forged = forged
        self._special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        self._bos, self._eos = bos_text(tokenizer), eos_text(tokenizer)
        self._native_answers: dict[str, dict[int, AnswerTokens]] = {}
        self._aligned: dict[tuple[str, str], list[AlignedAnswer]] = {}

    def encoded(self, conversation: str) -> Encoded:
        """A conversation, by id, as its native row."""
        return encode(self._rendered(self.conversations[conversation], self.native), self.tokenizer)

    def aligned(self, example: Example) -> list[AlignedAnswer]:
        """The example's answers that the native row has too, in order."""
        key = (example.conversation, example.format)
        if example.conversation not in self.conversations:
            return []
        if key not in self._aligned:
            self._aligned[key] = list(self._align(example))
        return self._aligned[key]

    def _align(self, example: Example) -> Iterator[AlignedAnswer]:
        row, chat_format = self.conversations[example.conversation], self._formats[example.format]
        if row.id not in self._native_answers:
            self._native_answers[row.id] = self._answers_in(row, self.native)
        native_answers = self._native_answers[row.id]
        if example.forged and self._forged:
            row = self._forged.in_example(row, chat_format)
        for number, student in self._answers_in(row, chat_format).items():
            native = native_answers.get(number)
            pairs = align(student, native) if native else []
            if native and pairs:
                stop = next((pair for pair in pairs if pair.place == "stop"), None)
                control = stop is not None and native.tokens[stop.second].id in self._special
                yield AlignedAnswer(student, native, tuple(pairs), stop, control)

    def _answers_in(self, row: Conversation, chat_format: Format) -> dict[int, AnswerTokens]:
        """The answers by their number.

        Not by message: a format that merges the system prompt into a question shifts the messages.
        """
        messages = adapt_to_format(row, chat_format).messages
        assistant = [at for at, message in enumerate(messages) if message.role == "assistant"]
        answers = answers_of(self._rendered(row, chat_format), self.tokenizer)
        return {assistant.index(at): answer for at, answer in answers.items()}

    def _rendered(self, row: Conversation, chat_format: Format) -> Rendered:
        return render(
            adapt_to_format(row, chat_format),
            chat_format,
            bos_token=self._bos,
            eos_token=self._eos,
        )
