"""Rows cut into folds, and what the teacher of a fold is trained on: the rows of the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.conversation import Conversation
from harness.data.controls import kind_of
from harness.errors import HarnessError
from harness.records import Format
from harness.training.config import (
    AutoBranchConfig,
    EvaluationConfig,
    FormatsConfig,
    ObjectiveConfig,
    StoppingConfig,
    TrackingConfig,
    TrainConfig,
)
from harness.training.data.examples import ExampleCache
from harness.training.data.training_rows import TrainingRows, encoded_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: In a run's folder: the runs of its teachers.
TEACHERS_DIR = "teachers"


def cut_into_folds(rows: Sequence[Conversation], count: int, seed: int) -> list[frozenset[str]]:
    """The ids of the rows in ``count`` folds of equal size, each with its share of every kind.

    Rows with the same answers are in the same fold, so a teacher has never seen the answers that it
    teaches. Which fold a row is in depends on the seed and the answers of all rows.

    Raises HarnessError when there are fewer different rows than folds.
    """
    groups: dict[str, list[Conversation]] = {}
    for row in rows:
        groups.setdefault(_drawn(row, seed), []).append(row)
    if len(groups) < count:
        raise HarnessError(
            f"objective.teacher_folds = {count}: the rows give {len(groups)} different answers",
            hint="set it to 2, or 0 for the base as the teacher",
        )
    drawn = sorted(groups, key=lambda group: (kind_of(groups[group][0]), group))
    return [
        frozenset(row.id for group in drawn[number::count] for row in groups[group])
        for number in range(count)
    ]


def _drawn(row: Conversation, seed: int) -> str:
    answers = [message.content for message in row.messages if message.role == "assistant"]
    stamp = json.dumps([seed, [answer.casefold().split() for answer in answers]])
    return hashlib.sha256(stamp.encode("utf-8", "surrogatepass")).hexdigest()


def teacher_config(config: TrainConfig, native: str, number: int) -> TrainConfig:
    """A teacher's settings: those of the run, but supervised, and in the native format alone."""
    return replace(
        config,
        output_dir=str(Path(config.output_dir) / TEACHERS_DIR / str(number)),
        adapter=replace(config.adapter, train_control_tokens=False),
        data=replace(config.data, on_refuse="skip", forged_turns=0.0),
        formats=FormatsConfig(train=(native,)),
        objective=ObjectiveConfig(),
        optimisation=replace(
            config.optimisation, num_train_epochs=config.objective.teacher_epochs, max_steps=0
        ),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
        stopping=StoppingConfig(),
        auto_branch=AutoBranchConfig(),
        tracking=TrackingConfig(),
    )


def teacher_examples(
    config: TrainConfig,
    rows: TrainingRows,
    fold: frozenset[str],
    native: Format,
    tokenizer: PreTrainedTokenizerBase,
    window: int | None,
) -> ExampleCache:
    """What the teacher of a fold learns: the rows of the other folds, in the native format."""
    others = tuple(row for row in rows.conversations if row.id not in fold)
    chosen = replace(rows, conversations=others)
    cache, _ = encoded_rows(config, chosen, (native,), tokenizer, window)
    return cache
