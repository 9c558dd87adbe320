"""Rows cut into folds, so that a model can be trained on all but one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from harness.conversation import Conversation
from harness.data.controls import kind_of
from harness.errors import HarnessError


def cut_into_folds(rows: Sequence[Conversation], count: int, seed: int) -> list[frozenset[str]]:
    """The ids of the rows in ``count`` folds of equal size, each with its share of every kind.

    Rows that give the same answers come into the same fold, so no teacher knows them by another
    row. Which fold a row is in depends on the seed and the texts of the rows.

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
