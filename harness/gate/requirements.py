"""Current run × limits → verdicts, for a model that has no baseline yet. Pure.

What a user demands outright, such as ``held_out.stopped >= .9``: parsed and judged. Pure.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.errors import HarnessError, nearest
from harness.gate.baseline import Baseline, MetricScores
from harness.gate.thresholds import MEASURES, Thresholds, lower_is_better
from harness.records import GROUPS, Verdict


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
            verdicts.append(_check_limit(current, format, metric, limit))
    return verdicts


def _check_limit(current: Baseline, format: str, metric: str, limit: float) -> Verdict:
    cell = current.cell(format, metric)
    if cell is None:
        return Verdict(
            format, metric, "missing", None, None, limit, 0, why=current.reasons[format, metric]
        )
    beyond = cell.low > limit if lower_is_better(metric) else cell.high < limit
    return Verdict(
        format,
        metric,
        "regressed" if beyond else "ok",
        None,
        cell.mean,
        limit,
        cell.n,
        worst_case=_worst(current, cell),
    )


def _worst(current: Baseline, cell: MetricScores) -> str:
    values = current.scored(cell)
    sign = -1.0 if lower_is_better(cell.metric) else 1.0
    return min(values, key=lambda id: (sign * values[id], id))


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(
    r"\s*(?P<place>[^\s<>=]+)\.(?P<metric>\w+)\s*(?P<sign>>=|<=|>|<)\s*(?P<value>[-+]?(?:\d+\.?\d*|\.\d+))\s*"
)
_EXAMPLE = 'for example --require "held_out.stopped >= .9" or --require "llama3.leak <= .02"'


@dataclass(frozen=True, slots=True)
class Requirement:
    """``place`` is a group, ``all``, or a format's id or glob; the mean of ``metric`` over it must compare with ``value``."""

    text: str
    place: str
    metric: str
    sign: str
    value: float

    def covers(self, format: str, group: str) -> bool:
        """Whether a format belongs to the place."""
        name = self.place.replace("_", "-")
        return self.place == "all" or name == group or fnmatchcase(format, self.place)


def parse_requirement(text: str) -> Requirement:
    """Read one demand. Raises HarnessError for what is none, and for an unknown measure."""
    found = _FORM.fullmatch(text)
    if not found:
        raise HarnessError(f"--require {text!r} is no demand", hint=_EXAMPLE)
    if found["metric"] not in MEASURES:
        raise HarnessError(
            f"--require {text!r}: unknown measure {found['metric']!r}",
            hint=nearest(found["metric"], MEASURES),
        )
    return Requirement(
        text.strip(), found["place"], found["metric"], found["sign"], float(found["value"])
    )


def check_requirements(current: Baseline, requirements: Sequence[Requirement]) -> list[Verdict]:
    """One verdict a demand, on the plain mean over the place's formats: what is demanded is judged as it is seen, without an interval.

    A place without formats, and one of whose formats some were not scored, has failed (*missing*): nothing is green by accident.
    """
    return [_check(current, requirement) for requirement in requirements]


def _check(current: Baseline, wanted: Requirement) -> Verdict:
    formats = [id for id, fact in current.formats.items() if wanted.covers(id, fact.group)]
    cells = {id: current.cell(id, wanted.metric) for id in formats}
    scored = {id: cell for id, cell in cells.items() if cell is not None}
    unscored = [id for id, cell in cells.items() if cell is None]
    if not scored or unscored:
        return Verdict(
            wanted.place,
            wanted.metric,
            "missing",
            None,
            None,
            wanted.value,
            0,
            why=f"required: {wanted.text}; {_why(current, wanted, unscored)}",
        )
    mean = math.fsum(cell.mean for cell in scored.values()) / len(scored)
    holds = _COMPARE[wanted.sign](mean, wanted.value)
    sign = -1.0 if lower_is_better(wanted.metric) else 1.0
    worst = min(scored, key=lambda id: (sign * scored[id].mean, id))
    why = f"required: {wanted.text}; worst format: {worst}"
    return Verdict(
        wanted.place,
        wanted.metric,
        "ok" if holds else "regressed",
        None,
        mean,
        wanted.value,
        sum(cell.n for cell in scored.values()),
        why=why,
    )


def _why(current: Baseline, wanted: Requirement, unscored: Sequence[str]) -> str:
    if unscored:
        reasons = [current.reasons.get((id, wanted.metric)) for id in unscored]
        return f"not scored in {', '.join(unscored[:5])}" + (
            f" ({reasons[0]})" if reasons[0] else ""
        )
    known = f"groups: {', '.join(group.replace('-', '_') for group in GROUPS)}, all; formats: {', '.join(list(current.formats)[:8])}, …"
    return f"no format of this run is {wanted.place!r} ({known})"
