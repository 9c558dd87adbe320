"""Current run × limits → verdicts, for a model that has no baseline yet. Pure."""

from __future__ import annotations

from harness.gate.baseline import Baseline, CellValues
from harness.gate.thresholds import Thresholds, lower_is_better
from harness.records import Verdict


def check_absolute(current: Baseline, thresholds: Thresholds) -> list[Verdict]:
    """Judge every cell that has a limit in its format's group, sorted by format and measure.

    A cell fails (*regressed*) when its whole 95 % interval lies beyond the limit: a few unlucky cases do
    not fail a gate. One that was not scored at all is *missing*, which fails too.
    """
    places = {(cell.format, cell.metric) for cell in current.cells} | set(current.reasons)
    verdicts = []
    for format, metric in sorted(places):
        limit = thresholds.limit(current.formats[format].group, metric)
        if limit is not None:
            verdicts.append(_check(current, format, metric, limit))
    return verdicts


def _check(current: Baseline, format: str, metric: str, limit: float) -> Verdict:
    cell = current.cell(format, metric)
    if cell is None:
        return Verdict(format, metric, "missing", None, None, limit, 0, why=current.reasons[format, metric])
    beyond = cell.low > limit if lower_is_better(metric) else cell.high < limit
    return Verdict(format, metric, "regressed" if beyond else "ok", None, cell.mean, limit, cell.n, worst_case=_worst(current, cell))


def _worst(current: Baseline, cell: CellValues) -> str:
    values = current.scored(cell)
    sign = -1.0 if lower_is_better(cell.metric) else 1.0
    return min(values, key=lambda id: (sign * values[id], id))
