"""The rows of a run: read from their sets, and left out or refused where nothing can be learnt from them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.conversations import Collection
from harness.data.refusals import (
    REFUSED_FILE,
    Refusal,
    summarise_refusals,
    raise_refusals,
    unlearnable,
    write_refusals,
)
from harness.errors import HarnessError
from harness.records import Conversation, Format
from harness.training.config import DataConfig, TrainConfig
from harness.training.data.examples import ExampleCache, make_plan
from harness.training.data.mixing import RowSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What was read. ``set_of`` tells the set of a conversation's id, ``weights`` has one number a set.

    ``schemas`` counts rows by schema, ``ignored`` the keys of rows that mean nothing here.
    """

    conversations: tuple[Conversation, ...]
    set_of: Mapping[str, int] = field(default_factory=dict)
    weights: tuple[float, ...] = (1.0,)
    refused: tuple[Refusal, ...] = ()
    schemas: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)


def read_training_rows(config: DataConfig, *, answered: bool = True) -> TrainingRows:
    """Read every set; rows need no answer when ``answered`` is false. Raises HarnessError when a row is refused and ``on_refuse`` is error, or when no row is left."""
    collection = Collection()
    set_of: dict[str, int] = {}
    sources = config.sources()
    for number, source in enumerate(sources):
        set_of.update(
            (conversation.id, number)
            for conversation in collection.read(source.path, source.schema, source.split)
        )
    why = {
        conversation.id: unlearnable(conversation, answered=answered)
        for conversation in collection.conversations
    }
    refused = [*collection.refusals, *filter(None, why.values())]
    if config.on_refuse == "error":
        raise_refusals(refused)
    kept = tuple(
        conversation for conversation in collection.conversations if why[conversation.id] is None
    )
    if not kept:
        raise HarnessError(
            f"nothing to learn from: {summarise_refusals(refused)}",
            where=", ".join(source.path for source in sources),
        )
    weights = tuple(source.weight for source in sources)
    return TrainingRows(
        kept, set_of, weights, tuple(refused), dict(collection.schemas), dict(collection.ignored)
    )


def row_sets(
    conversations: Sequence[Conversation], set_of: Mapping[str, int], weights: Sequence[float]
) -> tuple[RowSet, ...]:
    """Conversations by set, as indices. One that no set knows (an answer that the model gave itself) weighs 1."""
    own = len(weights)
    rows: dict[int, list[int]] = {}
    for row, conversation in enumerate(conversations):
        rows.setdefault(set_of.get(conversation.id, own), []).append(row)
    return tuple(RowSet.weighted(rows[number], (*weights, 1.0)[number]) for number in sorted(rows))


def encoded_rows(
    config: TrainConfig, rows: TrainingRows, formats: Sequence[Format], tokenizer: PreTrainedTokenizerBase
) -> tuple[ExampleCache, tuple[Refusal, ...]]:
    """Everything that the run will meet, rendered and encoded, and what was refused on the way.

    A row that fails in one format that is drawn for it is refused in all. The others are then drawn anew, until none fails.
    Raises HarnessError when ``on_refuse`` is error, or when no row is left.
    """
    conversations, refused = list(rows.conversations), list[Refusal]()
    while True:
        cache = ExampleCache(
            conversations,
            formats,
            tokenizer,
            config.data.max_length,
            row_sets(conversations, rows.set_of, rows.weights),
        )
        found = cache.refusals(make_plan(config, cache).pairs())
        if not found:
            return cache, tuple(refused)
        if config.data.on_refuse == "error":
            raise_refusals(list(found.values()))
        refused += found.values()
        conversations = [
            conversation for row, conversation in enumerate(conversations) if row not in found
        ]
        if not conversations:
            raise HarnessError(f"nothing to learn from: {summarise_refusals(refused)}")


def report_refusals(folder: Path, rows: TrainingRows, encoding: Sequence[Refusal]) -> None:
    """Say on standard error what was left out and ignored, and list it in the run's folder."""
    refused = [*rows.refused, *encoding]
    write_refusals(folder, refused)
    if refused:
        print(f"{summarise_refusals(refused)}; each with its reason: {folder / REFUSED_FILE}", file=sys.stderr)
    if rows.ignored:
        keys = ", ".join(f"{key} ({count})" for key, count in Counter(rows.ignored).most_common(8))
        print(f"keys of the data that mean nothing here, by rows: {keys}", file=sys.stderr)
