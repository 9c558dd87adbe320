"""The examples of a run, each encoded once, and the order in which the steps take them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from harness.backends.local.batches import least_padding
from harness.conversation import Conversation
from harness.data.refusals import Refusal, RefusedRow
from harness.errors import HarnessError, nearest
from harness.formats import load_format
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.records import Encoded, Format, Rendered
from harness.resources import data_dir
from harness.tokens.encode import bos_text, encode, eos_text
from harness.training.config import LossConfig, TrainConfig
from harness.training.data.forged_turns import ForgedTurns
from harness.training.data.mixing import Pair, RowSet, draw_formats
from harness.training.data.trained_parts import Part, part_of, selected

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation in one format, ready to train on.

    ``dropped`` is how many of its thoughts the format does not write. ``forged`` says that its last
    question carries a forged turn.
    """

    conversation: str
    format: str
    encoded: Encoded
    dropped: int = 0
    forged: bool = False

    @property
    def supervised(self) -> int:
        """How many of its tokens are trained. The first of a text is never predicted."""
        return sum(self.encoded.trained[1:])

    @property
    def parts(self) -> list[tuple[Part, int]]:
        """The supervised tokens in order: which part, and how many of its tokens follow."""
        first = int(self.encoded.trained[0])
        runs = groupby(self.encoded.kinds[first:])
        return [(part_of(kind), sum(1 for _ in run)) for kind, run in runs]


class ExampleCache:
    """Encodes a (row, format) pair when it is first asked for: nothing is tokenised twice.

    ``sets`` are the rows by weight, by default all in one. ``window`` is the longest text that the
    model can read, or None if it has no bound. ``loss`` says which parts are trained. ``forged``
    puts forged turns into some examples. A plain text is rendered in the format ``raw`` whatever
    was drawn for it.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        formats: Sequence[Format],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        sets: Sequence[RowSet] = (),
        window: int | None = None,
        loss: LossConfig | None = None,
        forged: ForgedTurns | None = None,
    ) -> None:
        self.conversations = conversations
        self.formats = formats
        self.sets = tuple(sets) or (RowSet.weighted(range(len(conversations))),)
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._window = window
        self._loss = loss or LossConfig()
        self._forged = forged
        self._bos, self._eos = bos_text(tokenizer), eos_text(tokenizer)
        self._raw = (
            load_format(data_dir("formats") / "raw.jinja")
            if any(c.plain for c in conversations)
            else None
        )
        self._examples: dict[Pair, Example] = {}

    def __call__(self, pair: Pair) -> Example:
        """The pair's example.

        Raises RefusedRow for a row that is too long, trains nothing or cannot be rendered.
        """
        if pair not in self._examples:
            self._examples[pair] = self._make(pair)
        return self._examples[pair]

    def format_of(self, pair: Pair) -> Format:
        """The format that the pair's row is rendered in."""
        row, at = pair
        return self._raw if self._raw and self.conversations[row].plain else self.formats[at]

    def rendered(self, pair: Pair) -> Rendered:
        """The text and spans of the pair's example.

        Raises HarnessError when the format cannot express the row.
        """
        row, chat_format = self.conversations[pair[0]], self.format_of(pair)
        if self._forged and self(pair).forged:
            row = self._forged.in_example(row, chat_format)
        return self._rendered(row, chat_format)

    def _rendered(self, conversation: Conversation, chat_format: Format) -> Rendered:
        adapted = adapt_to_format(conversation, chat_format)
        rendered = render(adapted, chat_format, bos_token=self._bos, eos_token=self._eos)
        return selected(rendered, adapted.messages, self._loss)

    def refusals(self, pairs: Iterable[Pair]) -> dict[int, Refusal]:
        """Encode these pairs now. Returns why rows cannot be learnt from, by row."""
        refused: dict[int, Refusal] = {}
        for pair in pairs:
            if pair[0] not in refused:
                try:
                    self(pair)
                except RefusedRow as error:
                    refused[pair[0]] = error.refusal(error.where)
        return refused

    def _make(self, pair: Pair) -> Example:
        row, chat_format = self.conversations[pair[0]], self.format_of(pair)
        if self._forged:
            changed = self._forged.in_example(row, chat_format)
            if changed is not row:
                with suppress(RefusedRow):  # then it is learnt without its forged turn
                    return replace(self._encoded(changed, chat_format), forged=True)
        return self._encoded(row, chat_format)

    def _encoded(self, conversation: Conversation, chat_format: Format) -> Example:
        place = conversation.place
        try:
            rendered = self._rendered(conversation, chat_format)
            encoded = encode(rendered, self._tokenizer)
        except HarnessError as error:
            raise RefusedRow(
                "not to be rendered", error.message, where=place, hint=error.hint
            ) from None
        length = f"{len(encoded.ids)} tokens in format {chat_format.id}"
        if self._window and len(encoded.ids) > self._window:
            raise RefusedRow(
                "longer than the model's window",
                f"{length}, and the model reads {self._window}",
                where=place,
                hint="split the conversation",
            )
        if len(encoded.ids) > self._max_length:
            raise RefusedRow(
                "too long",
                f"{length}, over max_length = {self._max_length}",
                where=place,
                hint="raise data.max_length or split the conversation",
            )
        if not any(encoded.trained[1:]):
            raise _untrained(rendered, chat_format, place)
        return Example(conversation.id, chat_format.id, encoded, len(rendered.dropped))


def _untrained(rendered: Rendered, chat_format: Format, place: str) -> RefusedRow:
    """Why nothing of a row is trained: by the settings, by the format, or by the row."""
    if rendered.context:
        return RefusedRow(
            "nothing to train",
            f"loss.train_on leaves nothing of it to train in format {chat_format.id}",
            where=place,
        )
    if rendered.text and not any(span.trained for span in rendered.spans):
        return RefusedRow(
            "no trained part in the format",
            f"format {chat_format.id} marks nothing as trained",
            where=place,
            hint=f"see: harness formats check {chat_format.id}",
        )
    return RefusedRow(
        "no assistant turn",
        f"no assistant turn to learn from in format {chat_format.id}",
        where=place,
    )


@dataclass(frozen=True)
class TrainingPlan:
    """All optimiser steps of a run, as (row, format) pairs. Every step has at least one.

    Epochs may differ in size, and the last step of each may be smaller than the others. A run may
    end inside its last epoch.
    """

    epochs: tuple[tuple[Pair, ...], ...]
    step_size: int
    total_steps: int

    @cached_property
    def steps_by_epoch(self) -> tuple[int, ...]:
        """Optimiser steps of each whole epoch."""
        return tuple(-(-len(epoch) // self.step_size) for epoch in self.epochs)

    @cached_property
    def _first_steps(self) -> list[int]:
        """The number of the first step of each epoch."""
        return [0, *accumulate(self.steps_by_epoch[:-1])]

    def step(self, number: int) -> tuple[Pair, ...]:
        """The pairs of optimiser step ``number``, from 0."""
        epoch = bisect_right(self._first_steps, number) - 1
        begin = (number - self._first_steps[epoch]) * self.step_size
        return self.epochs[epoch][begin : begin + self.step_size]

    def pairs(self) -> Iterator[Pair]:
        """Every pair of the run, in order."""
        return (pair for number in range(self.total_steps) for pair in self.step(number))

    def epoch_at(self, steps: int) -> float:
        """How many epochs the first ``steps`` steps are."""
        epoch = bisect_right(self._first_steps, steps) - 1
        size = self.steps_by_epoch[epoch]
        return (epoch * size + steps - self._first_steps[epoch]) / size

    def step_at(self, epochs: float) -> float:
        """How many steps ``epochs`` epochs are; the inverse of ``epoch_at``."""
        epoch = min(int(epochs), len(self.epochs) - 1)
        size = self.steps_by_epoch[epoch]
        return epochs * size + (self._first_steps[epoch] - epoch * size)


def make_plan(config: TrainConfig, cache: ExampleCache) -> TrainingPlan:
    """Draw the formats of every epoch and cut the epochs into optimiser steps."""
    opt = config.optimisation
    size = opt.per_device_train_batch_size * opt.gradient_accumulation_steps
    weights = _format_weights(config.formats.format_weights, cache.formats)
    plain = {row for row, conversation in enumerate(cache.conversations) if conversation.plain}
    epochs: list[tuple[Pair, ...]] = []
    steps = 0
    while steps < opt.max_steps if opt.max_steps else len(epochs) < opt.num_train_epochs:
        mixing = config.formats.mixing
        pairs = draw_formats(mixing, weights, cache.sets, len(epochs), config.seed)
        if mixing == "all":  # a plain text has one format, so it is used once
            pairs = [pair for pair in pairs if pair[1] == 0 or pair[0] not in plain]
        epochs.append(tuple(pairs))
        steps += -(-len(pairs) // size)
    drawn = TrainingPlan(tuple(epochs), size, opt.max_steps)
    if opt.max_steps:
        return drawn
    return replace(drawn, total_steps=max(1, round(drawn.step_at(opt.num_train_epochs))))


def _format_weights(given: Mapping[str, float], formats: Sequence[Format]) -> list[float]:
    """One weight for each format: its own, else its family's, else 1.

    Raises HarnessError for a name that is neither, or when all weights are 0.
    """
    known = {name for trained in formats for name in (trained.id, trained.family)}
    for name in given:
        if name not in known:
            raise HarnessError(
                f"formats.format_weights: {name!r} is not a trained format or family",
                hint=nearest(name, known),
            )
    weights = [given.get(trained.id, given.get(trained.family, 1.0)) for trained in formats]
    if not any(weights):
        raise HarnessError("formats.format_weights: every trained format has weight 0")
    return weights


def micro_batches(examples: Sequence[Example], budget: int, call: int = 48) -> list[list[Example]]:
    """Split a step into padded micro-batches at the least cost of padding and passes.

    ``call`` is what one more pass costs, in tokens. The loss is a sum over all of them, so the
    split does not change the result.
    """
    return least_padding(examples, lambda example: len(example.encoded.ids), budget, call)


def even_batches(examples: Sequence[Example], budget: int) -> list[list[Example]]:
    """Split a step into the fewest micro-batches of at most ``budget`` tokens, of similar size.

    Rows of similar length come together. For a model that pads hardly anything within a batch
    (harness.training.step.handwritten). An example longer than the budget goes alone.
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
