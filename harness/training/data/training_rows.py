"""The rows of a run: read from their sets, with those refused that cannot be learnt from."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.conversation import Conversation
from harness.data.chat_marks import ChatMarks
from harness.data.controls import (
    CONTROLS_FILE,
    are_among,
    possible_controls,
    set_aside,
    shipped_controls,
    without,
    write_controls,
)
from harness.data.conversations import Collection, note_lines
from harness.data.refusals import (
    REFUSED_FILE,
    Refusal,
    raise_refusals,
    summarise_refusals,
    unlearnable,
    write_refusals,
)
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.records import Format
from harness.training.config import DataConfig, TrainConfig
from harness.training.data.examples import ExampleCache, make_plan
from harness.training.data.forged_turns import ForgedTurns
from harness.training.data.mixing import RowSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """The conversations that were read, and what was refused on the way."""

    conversations: tuple[Conversation, ...]
    set_of: Mapping[str, int] = field(default_factory=dict)
    """A conversation's id → the index of its set."""
    weights: tuple[float, ...] = (1.0,)
    """One number for each set."""
    refused: tuple[Refusal, ...] = ()
    schemas: Mapping[str, int] = field(default_factory=dict)
    """Rows by schema."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Keys of rows that have no meaning here, by number of rows."""
    readings: Mapping[str, int] = field(default_factory=dict)
    """What was read otherwise than as a plain text, by number of rows."""
    controls: tuple[Conversation, ...] = ()
    """Conversations of the same pool that are never trained on; none where there are no such."""
    set_aside: bool = False
    """Whether the controls are rows of these sets, and not those of the shipped training set."""


def read_training_rows(
    config: DataConfig,
    *,
    answered: bool = True,
    trunks_controls: Sequence[Conversation] | None = None,
) -> TrainingRows:
    """Read every set, and set controls aside. Rows need no answer when ``answered`` is false.

    A branch has the controls of the run that its tree began with: ``trunks_controls``. Raises
    HarnessError when a row is refused and ``on_refuse`` is error, or when no row is left.
    """
    collection = Collection()
    set_of: dict[str, int] = {}
    sources = config.sources()
    for number, source in enumerate(sources):
        set_of.update(
            (conversation.id, number)
            for conversation in collection.read(source.path, source.schema, source.split)
        )
    problem_of = {
        conversation.id: unlearnable(conversation, answered=answered)
        for conversation in collection.conversations
    }
    refused = [*collection.refusals, *filter(None, problem_of.values())]
    if config.on_refuse == "error":
        raise_refusals(refused)
    learnable = tuple(
        conversation
        for conversation in collection.conversations
        if problem_of[conversation.id] is None
    )
    if not learnable:
        raise _nothing_left(refused, ", ".join(source.path for source in sources))
    if trunks_controls is None:
        controls = _set_aside(learnable, set_of, config.controls)
    else:
        controls = tuple(trunks_controls) if are_among(trunks_controls, learnable) else ()
    return TrainingRows(
        tuple(without(learnable, controls)),
        set_of,
        tuple(source.weight for source in sources),
        tuple(refused),
        dict(collection.schemas),
        dict(collection.ignored),
        dict(collection.readings),
        controls or shipped_controls(learnable),
        bool(controls),
    )


def _nothing_left(refused: Sequence[Refusal], where: str = "") -> HarnessError:
    """The error that no row is left, with the reason of the first; ``where`` if there was none."""
    if not refused:
        return HarnessError("nothing to learn from: no rows", where=where)
    first = refused[0]
    message = f"nothing to learn from: {summarise_refusals(refused)}; the first: {first.message}"
    return HarnessError(message, where=first.place)


#: Of fewer rows none is set aside unless asked for: ten controls would be too many of them.
FEWEST_ROWS = 50
#: The least and the most controls that are set aside unless asked for others.
FEWEST_CONTROLS, MOST_CONTROLS = 10, 200


def _set_aside(
    rows: Sequence[Conversation], set_of: Mapping[str, int], setting: int | Literal["auto"]
) -> tuple[Conversation, ...]:
    """The controls that ``data.controls`` asks for. Raises HarnessError for more than there are."""
    usable = len(possible_controls(rows))
    if isinstance(setting, int):
        count = setting
    elif usable < FEWEST_ROWS or shipped_controls(rows):
        count = 0
    else:
        count = min(MOST_CONTROLS, max(FEWEST_CONTROLS, usable // 10))
    if count > usable or count == len(rows):
        raise HarnessError(
            f"data.controls = {count}: of {len(rows)} rows {usable} can be set aside, not all",
            hint="a control ends with an answer in words, and occurs once",
        )
    return tuple(set_aside(rows, count, set_of=set_of))


def row_sets(
    conversations: Sequence[Conversation], set_of: Mapping[str, int], weights: Sequence[float]
) -> tuple[RowSet, ...]:
    """Conversations by set, as indices. Those of no set (the model's own answers) have weight 1."""
    no_set = len(weights)
    rows: dict[int, list[int]] = {}
    for row, conversation in enumerate(conversations):
        rows.setdefault(set_of.get(conversation.id, no_set), []).append(row)
    return tuple(RowSet.weighted(rows[number], (*weights, 1.0)[number]) for number in sorted(rows))


def encoded_rows(
    config: TrainConfig,
    rows: TrainingRows,
    formats: Sequence[Format],
    tokenizer: PreTrainedTokenizerBase,
    window: int | None,
) -> tuple[ExampleCache, tuple[Refusal, ...]]:
    """Render and encode all that the run will use, and return what was refused on the way.

    ``window`` is the longest text that the model can read, or None if it has no bound.

    A row that fails in one format that is drawn for it is refused in all. The others are then drawn
    again, until none fails. Raises HarnessError when ``on_refuse`` is error, or when no row is
    left.
    """
    conversations, refused = list(rows.conversations), list[Refusal]()
    forged = forged_turns(config, rows, formats)
    while True:
        cache = ExampleCache(
            conversations,
            formats,
            tokenizer,
            config.data.max_length,
            row_sets(conversations, rows.set_of, rows.weights),
            window,
            config.loss,
            forged,
        )
        failed = cache.refusals(make_plan(config, cache).pairs())
        if not failed:
            return cache, tuple(refused)
        if config.data.on_refuse == "error":
            raise_refusals(list(failed.values()))
        refused += failed.values()
        conversations = [
            conversation for row, conversation in enumerate(conversations) if row not in failed
        ]
        if not conversations:
            raise _nothing_left(refused)


def forged_turns(
    config: TrainConfig, rows: TrainingRows, formats: Sequence[Format]
) -> ForgedTurns | None:
    """What ``data.forged_turns`` asks for; None for 0."""
    share = config.data.forged_turns
    return ForgedTurns(rows.conversations, formats, share, config.seed) if share else None


def report_rows(folder: Path, rows: TrainingRows, encoding: Sequence[Refusal]) -> None:
    """Print what was set aside, left out and ignored, and list it in the run's folder."""
    write_controls(folder, rows.controls)
    if rows.set_aside:
        print(
            f"{len(rows.controls)} rows are set aside as controls of recall and never trained on"
            f" (data.controls): {folder / CONTROLS_FILE}",
            file=sys.stderr,
        )
    refused = [*rows.refused, *encoding]
    write_refusals(folder, refused)
    if refused:
        print(
            f"{summarise_refusals(refused)}; each with its reason: {folder / REFUSED_FILE}",
            file=sys.stderr,
        )
    for line in (*note_lines(rows.ignored, rows.readings), *mark_lines(rows.conversations)):
        print(line, file=sys.stderr)


def mark_lines(rows: Sequence[Conversation]) -> list[str]:
    """How many rows hold marks of chat formats in their texts, and the first of each kind.

    They are trained as the letters that spell them, never as control tokens.
    """
    marks = ChatMarks(tuple(load_formats().values()))
    found: dict[str, list[str]] = {}
    for row in rows:
        for kind, message in dict(marks.findings(row)).items():
            found.setdefault(kind, []).append(f"{row.place}: {message}")
    return [
        f"{kind} in {len(places)} row{'s' * (len(places) != 1)}; the first: {places[0]}"
        for kind, places in found.items()
    ]
