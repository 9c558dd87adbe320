"""Where conversations to learn from are, and how often they count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from harness.data.schemas import SchemaName


@dataclass(frozen=True)
class DataSource:
    """One set of conversations among several."""

    path: str
    """A file (.jsonl, .json, .parquet), a folder of them, or a data set of the hub (owner/name)."""
    weight: Annotated[float, Gt(0)] = 1.0
    """Repeats of its average row per epoch: 2 shows each row twice, 0.5 every other epoch."""
    schema: SchemaName = "auto"
    """How its rows are written. auto: as data.schema says."""
    split: str = "train"
    """Which split of a data set of the hub."""


def source_of(value: str | DataSource) -> DataSource:
    """``path`` or ``path:weight`` as a source; a colon without a number is part of the path."""
    if isinstance(value, DataSource):
        return value
    path, colon, weight = value.rpartition(":")
    try:
        return DataSource(path, float(weight)) if colon and path else DataSource(value)
    except ValueError:
        return DataSource(value)
