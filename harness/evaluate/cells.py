"""Scores → cells: one mean with its interval per format and measure. The only place where a cell is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.records import Cell, Group, Score
from harness.stats import mean_interval


def make_cells(scores: Iterable[Score], groups: Mapping[str, Group]) -> list[Cell]:
    """Cells in the order in which formats and measures first occur."""
    values: dict[tuple[str, str], list[float]] = {}
    lost: dict[tuple[str, str], int] = {}
    for score in scores:
        place = (score.format, score.metric)
        values.setdefault(place, [])
        if score.value is None:
            lost[place] = lost.get(place, 0) + 1
        else:
            values[place].append(score.value)
    return [_cell(format, groups[format], metric, found, lost.get((format, metric), 0)) for (format, metric), found in values.items()]


def _cell(format: str, group: Group, metric: str, values: list[float], lost: int) -> Cell:
    if not values:
        return Cell(format, group, metric, None, None, None, 0, lost)
    interval = mean_interval(values)
    return Cell(format, group, metric, interval.value, interval.low, interval.high, interval.n, lost)
