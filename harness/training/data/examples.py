"""Every (conversation, format) pair rendered and encoded once, and the order in which steps take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.local.batches import least_padding
from harness.data.refusals import Refusal, RefusedRow
from harness.errors import HarnessError, nearest
from harness.formats import load_format
from harness.formats.render import adapt_to_format, render
from harness.records import Conversation, Encoded, Format, Rendered
from harness.resources import data_dir
from harness.tokens.encode import bos_text, encode, eos_text
from harness.training.config import TrainConfig
from harness.training.data.mixing import Pair, RowSet, draw_formats

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
        """How many of its tokens are trained. The first of a text is never predicted."""
        return sum(self.encoded.trained[1:])


class ExampleCache:
    """Encodes a pair when it is first asked for and keeps it: nothing is tokenised twice.

    ``sets`` are the rows by weight; all in one when left out. A plain text wears the format ``raw`` whatever was drawn.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        formats: Sequence[Format],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        sets: Sequence[RowSet] = (),
    ) -> None:
        self.conversations = conversations
        self.formats = formats
        self.sets = tuple(sets) or (RowSet.weighted(range(len(conversations))),)
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._bos, self._eos = bos_text(tokenizer), eos_text(tokenizer)
        self._raw = (
            load_format(data_dir("formats") / "raw.jinja")
            if any(c.plain for c in conversations)
            else None
        )
        self._kept: dict[Pair, Example] = {}

    def __call__(self, pair: Pair) -> Example:
        """The pair's example. Raises RefusedRow for a row that is too long, trains nothing or cannot be rendered."""
        if pair not in self._kept:
            self._kept[pair] = self._make(pair)
        return self._kept[pair]

    def format(self, pair: Pair) -> Format:
        """What the pair's row is rendered in."""
        return (
            self._raw if self._raw and self.conversations[pair[0]].plain else self.formats[pair[1]]
        )

    def rendered(self, pair: Pair) -> Rendered:
        """The pair's text and its spans. Raises HarnessError when the format cannot carry the row."""
        format = self.format(pair)
        return render(
            adapt_to_format(self.conversations[pair[0]], format),
            format,
            bos_token=self._bos,
            eos_token=self._eos,
        )

    def refusals(self, pairs: Iterable[Pair]) -> dict[int, Refusal]:
        """Encode these pairs now. Returns, by row, why one of its pairs cannot be learnt from."""
        found: dict[int, Refusal] = {}
        for pair in pairs:
            if pair[0] not in found:
                try:
                    self(pair)
                except RefusedRow as error:
                    found[pair[0]] = error.refusal(error.where)
        return found

    def _make(self, pair: Pair) -> Example:
        conversation, format = self.conversations[pair[0]], self.format(pair)
        place = conversation.source or conversation.id
        try:
            encoded = encode(self.rendered(pair), self._tokenizer)
        except HarnessError as error:
            raise RefusedRow(
                "not to be rendered", error.message, where=place, hint=error.hint
            ) from None
        if len(encoded.ids) > self._max_length:
            raise RefusedRow(
                "too long",
                f"{len(encoded.ids)} tokens in format {format.id}, over max_length = {self._max_length}",
                where=place,
                hint="raise data.max_length or split the conversation",
            )
        if not any(encoded.trained[1:]):
            raise RefusedRow(
                "no assistant turn",
                f"no assistant turn to learn from in format {format.id}",
                where=place,
            )
        return Example(conversation.id, format.id, encoded)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """All optimiser steps of a run, as (example, format) pairs. A pure function of the settings and the sizes."""

    epochs: tuple[tuple[Pair, ...], ...]
    step_size: int
    total_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in a whole epoch; the last may be smaller. Every epoch has as many pairs as the first."""
        return -(-len(self.epochs[0]) // self.step_size)

    def step(self, number: int) -> tuple[Pair, ...]:
        """The pairs of optimiser step ``number``, from 0."""
        epoch, at = divmod(number, self.steps_per_epoch)
        return self.epochs[epoch][at * self.step_size : (at + 1) * self.step_size]

    def pairs(self) -> Iterator[Pair]:
        """Every pair of the run, in order."""
        return (pair for number in range(self.total_steps) for pair in self.step(number))


def make_plan(config: TrainConfig, cache: ExampleCache) -> TrainingPlan:
    """Draw the formats of every epoch and cut the epochs into optimiser steps."""
    opt = config.optimisation
    size = opt.per_device_train_batch_size * opt.gradient_accumulation_steps
    weights = _format_weights(config.formats.format_weights, cache.formats)
    names = [conversation.id for conversation in cache.conversations]
    plain = {row for row, conversation in enumerate(cache.conversations) if conversation.plain}

    def epoch(number: int) -> tuple[Pair, ...]:
        drawn = draw_formats(config.formats.mixing, weights, cache.sets, names, number, config.seed)
        if config.formats.mixing == "all":  # a plain text has one format, so it is met once
            drawn = [pair for pair in drawn if pair[1] == 0 or pair[0] not in plain]
        return tuple(drawn)

    first = epoch(0)
    steps = -(-len(first) // size)
    total = opt.max_steps or max(1, round(steps * opt.num_train_epochs))
    return TrainingPlan((first, *map(epoch, range(1, -(-total // steps)))), size, total)


def _format_weights(given: Mapping[str, float], formats: Sequence[Format]) -> list[float]:
    """One weight a format: its own, else its family's, else 1. Raises HarnessError for a name that is neither, or when nothing is left."""
    known = {name for format in formats for name in (format.id, format.family)}
    for name in given:
        if name not in known:
            raise HarnessError(
                f"formats.format_weights: {name!r} is no trained format or family",
                hint=nearest(name, known),
            )
    weights = [given.get(format.id, given.get(format.family, 1.0)) for format in formats]
    if not any(weights):
        raise HarnessError("formats.format_weights: every trained format weighs 0")
    return weights


def micro_batches(examples: Sequence[Example], budget: int) -> list[list[Example]]:
    """Split a step into the forward passes that pad least. The loss is a sum over all of them, so the split changes nothing."""
    return least_padding(examples, lambda example: len(example.encoded.ids), budget)


def even_batches(examples: Sequence[Example], budget: int) -> list[list[Example]]:
    """Split a step into the fewest passes of at most ``budget`` tokens, about as large as each other, rows of like length together.

    For a model that pads next to nothing within a pass (harness.training.step.handwritten). An example longer than the budget goes alone.
    """
    ordered = sorted(examples, key=lambda example: len(example.encoded.ids), reverse=True)
    total = sum(len(example.encoded.ids) for example in ordered)
    share = total / max(1, -(-total // budget))
    batches: list[list[Example]] = []
    used = 0
    for example in ordered:
        length = len(example.encoded.ids)
        if not batches or used >= share or used + length > budget:
            batches.append([])
            used = 0
        batches[-1].append(example)
        used += length
    return batches
