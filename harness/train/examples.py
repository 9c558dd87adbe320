"""Every (conversation, format) pair rendered and encoded once, and the order in which steps take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.batches import least_padding
from harness.encode import bos_text, encode, eos_text
from harness.errors import HarnessError
from harness.records import Conversation, Encoded, Format
from harness.render import fitted, render
from harness.train.config import TrainConfig
from harness.train.mixing import draw_formats

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation in one format, ready to train on."""

    conversation: str
    format: str
    encoded: Encoded

    @property
    def supervised(self) -> int:
        """How many of its tokens are trained."""
        return sum(self.encoded.trained)


class ExampleCache:
    """Encodes a pair when it is first asked for and keeps it: nothing is tokenised twice."""

    def __init__(self, conversations: Sequence[Conversation], formats: Sequence[Format], tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.conversations = conversations
        self.formats = formats
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._bos, self._eos = bos_text(tokenizer), eos_text(tokenizer)
        self._kept: dict[tuple[int, int], Example] = {}

    def __call__(self, pair: tuple[int, int]) -> Example:
        if pair not in self._kept:
            self._kept[pair] = self._make(self.conversations[pair[0]], self.formats[pair[1]])
        return self._kept[pair]

    def check(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Encode these pairs now. Raises HarnessError for a row that is too long, trains nothing or cannot be rendered."""
        for pair in pairs:
            self(pair)

    def _make(self, conversation: Conversation, format: Format) -> Example:
        encoded = encode(render(fitted(conversation, format), format, bos_token=self._bos, eos_token=self._eos), self._tokenizer)
        place = conversation.source or conversation.id
        if len(encoded.ids) > self._max_length:
            raise HarnessError(
                f"{len(encoded.ids)} tokens in format {format.id}, over max_length = {self._max_length}",
                where=place,
                hint="raise data.max_length or split the conversation",
            )
        if not any(encoded.trained[1:]):
            raise HarnessError(f"no assistant turn to learn from in format {format.id}", where=place)
        return Example(conversation.id, format.id, encoded)


@dataclass(frozen=True, slots=True)
class Plan:
    """All optimiser steps of a run, as (example, format) pairs. A pure function of the settings and the sizes."""

    epochs: tuple[tuple[tuple[int, int], ...], ...]
    step_size: int
    total_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in a whole epoch; the last may be smaller."""
        return -(-len(self.epochs[0]) // self.step_size)

    def step(self, number: int) -> tuple[tuple[int, int], ...]:
        """The pairs of optimiser step ``number``, from 0."""
        epoch, at = divmod(number, self.steps_per_epoch)
        return self.epochs[epoch][at * self.step_size : (at + 1) * self.step_size]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Every pair of the run, in order."""
        return (pair for number in range(self.total_steps) for pair in self.step(number))


def make_plan(config: TrainConfig, conversations: int, formats: int) -> Plan:
    """Draw the formats of every epoch and cut the epochs into optimiser steps."""
    opt = config.optimisation
    size = opt.per_device_train_batch_size * opt.gradient_accumulation_steps
    whole = int(-(-opt.num_train_epochs // 1))
    epochs = tuple(tuple(draw_formats(config.formats.mixing, formats, conversations, epoch, config.seed)) for epoch in range(whole))
    steps = -(-len(epochs[0]) // size)
    return Plan(epochs, size, max(1, round(steps * opt.num_train_epochs)))


def micro_batches(examples: Sequence[Example], budget: int) -> list[list[Example]]:
    """Split a step into the forward passes that pad least. The loss is a sum over all of them, so the split changes nothing."""
    return least_padding(examples, lambda example: len(example.encoded.ids), budget)
