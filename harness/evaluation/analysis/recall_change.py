"""By how much recall differs between two runs of one adapter, such as its file in llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.evaluation.analysis.recall_table import GAIN, LEVEL, SHARE, Comparison
from harness.evaluation.results import RecallSets, RecallTable
from harness.report.document import RecallEntry
from harness.stats import mean_interval


@dataclass(frozen=True, slots=True)
class RecallChange:
    """One metric in one format in both runs. ``low`` and ``high`` bound the difference.

    ``gain`` is that of the trained rows over the base, less that of the controls if there are any.
    """

    format: str
    metric: str
    before: float
    difference: float
    low: float | None
    high: float | None
    n: int
    """Trained rows."""


def recall_changes(sets: RecallSets, before: RecallTable, after: RecallTable) -> list[RecallChange]:
    """The change of the gain and of near-verbatim recall in each format, paired by row.

    Only ``before`` needs the base's scores: in the difference of two gains the base cancels. So
    the change of the gain is the change of each row's level, compared with the same of the
    controls. Rows that only one run scored are left out.
    """
    changes = []
    for name, known in before.by_case.items():
        other = after.by_case.get(name, {})
        shared = {row: (known[row], other[row]) for row in known if row in other}
        changes += _gain_change(Comparison(sets, before.traits), name, shared)
        changes += _share_change(sets, name, shared)
    return changes


_Pairs = Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]


def _gain_change(compare: Comparison, name: str, pairs: _Pairs) -> list[RecallChange]:
    """One entry, or none without a base or without a row in both runs."""
    gains = {row: {GAIN: was[GAIN]} for row, (was, _) in pairs.items() if GAIN in was}
    moved = {row: {GAIN: pairs[row][1][LEVEL] - pairs[row][0][LEVEL]} for row in gains}
    if not compare.trained & gains.keys():
        return []
    return [
        RecallChange(name, GAIN, _value(was), _value(change), change.low, change.high, was.n_train)
        for was, change in zip(
            compare.rows(gains, name, None), compare.rows(moved, name, None), strict=True
        )
    ]


def _value(entry: RecallEntry) -> float:
    return entry.train if entry.excess is None else entry.excess


def _share_change(sets: RecallSets, name: str, pairs: _Pairs) -> list[RecallChange]:
    """The change in the trained rows that both runs continued."""
    rows = [pairs[case.id] for case in sets.train if case.id in pairs]
    both = [(was[SHARE], now[SHARE]) for was, now in rows if SHARE in was and SHARE in now]
    if not both:
        return []
    found = mean_interval([now - was for was, now in both], -1.0, 1.0)
    before = sum(was for was, _ in both) / len(both)
    return [RecallChange(name, SHARE, before, found.value, found.low, found.high, len(both))]
