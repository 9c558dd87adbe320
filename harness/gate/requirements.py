"""Checks without a baseline: absolute limits, and what ``--gate-require`` demands of a mean."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.errors import HarnessError, nearest
from harness.gate.baseline import Baseline, BaselineEntry
from harness.gate.thresholds import Thresholds
from harness.metrics.registry import METRICS, lower_is_better
from harness.records import GROUPS, GateCheck, Outcome


def check_absolute(current: Baseline, thresholds: Thresholds) -> list[GateCheck]:
    """Judge each metric that has a limit in its format's group, sorted by format and metric.

    It fails when the whole 95 % interval lies beyond the limit, so that a few unlucky cases do not
    fail a gate, and passes when the whole interval lies within. Else it is *inconclusive*. One that
    was not scored at all is *missing*, which fails too.
    """
    places = {(entry.format, entry.metric) for entry in current.entries} | set(current.reasons)
    checks = []
    for format_id, metric in sorted(places):
        limit = thresholds.limit(current.formats[format_id].group, metric)
        if limit is not None:
            checks.append(_check_limit(current, format_id, metric, limit))
    return checks


def _check_limit(current: Baseline, format_id: str, metric: str, limit: float) -> GateCheck:
    entry = current.entry(format_id, metric)
    if entry is None:
        why = current.reasons[format_id, metric]
        return GateCheck(format_id, metric, "missing", None, None, limit, 0, why=why)
    outcome = _outcome(entry, limit)
    worst = _worst(metric, current.scored(entry))
    return GateCheck(format_id, metric, outcome, None, entry.mean, limit, entry.n, worst_case=worst)


def _outcome(entry: BaselineEntry, limit: float) -> Outcome:
    if entry.low is None or entry.high is None:
        return "inconclusive"
    worst, best = entry.low, entry.high
    if lower_is_better(entry.metric):
        worst, best, limit = -entry.high, -entry.low, -limit
    return "failed" if best < limit else "passed" if worst >= limit else "inconclusive"


def _worst(metric: str, values: dict[str, float]) -> str:
    """The key of the worst value; of equals the first by name."""
    sign = -1.0 if lower_is_better(metric) else 1.0
    return min(values, key=lambda key: (sign * values[key], key))


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(
    r"\s*(?P<place>[^\s<>=]+)\.(?P<metric>\w+)\s*"
    r"(?P<sign>>=|<=|>|<)\s*(?P<value>[-+]?(?:\d+\.?\d*|\.\d+))\s*"
)
_EXAMPLE = (
    'for example --gate-require "held_out.stopped >= .9" or --gate-require "llama3.leak <= .02"'
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """The mean of ``metric`` over ``place`` must compare with ``value``.

    ``place`` is a group, ``all``, or the id of a format or a glob.
    """

    text: str
    place: str
    metric: str
    sign: str
    value: float

    def covers(self, format_id: str, group: str) -> bool:
        """Whether a format belongs to the place."""
        name = self.place.replace("_", "-")
        return self.place == "all" or name == group or fnmatchcase(format_id, self.place)


def parse_requirement(text: str) -> Requirement:
    """Read one requirement. Raises HarnessError for an invalid one and for an unknown metric."""
    match = _FORM.fullmatch(text)
    if not match:
        raise HarnessError(f"invalid --gate-require {text!r}", hint=_EXAMPLE)
    metric = match["metric"]
    if metric not in METRICS:
        raise HarnessError(
            f"--gate-require {text!r}: unknown metric {metric!r}", hint=nearest(metric, METRICS)
        )
    return Requirement(text.strip(), match["place"], metric, match["sign"], float(match["value"]))


def check_requirements(current: Baseline, requirements: Sequence[Requirement]) -> list[GateCheck]:
    """One check per requirement, on the plain mean over the place's formats, without interval.

    A place without formats, or with a format that was not scored, fails (*missing*): nothing passes
    by accident.
    """
    return [_check(current, requirement) for requirement in requirements]


def _check(current: Baseline, required: Requirement) -> GateCheck:
    metric = required.metric
    entries = {
        format_id: current.entry(format_id, metric)
        for format_id, fact in current.formats.items()
        if required.covers(format_id, fact.group)
    }
    scored = {format_id: entry for format_id, entry in entries.items() if entry is not None}
    outcome: Outcome = "missing"
    mean, n = None, 0
    if not scored or len(scored) < len(entries):
        why = _why_missing(current, required, sorted(set(entries) - set(scored)))
    else:
        mean = math.fsum(entry.mean for entry in scored.values()) / len(scored)
        n = sum(entry.n for entry in scored.values())
        outcome = "passed" if _COMPARE[required.sign](mean, required.value) else "failed"
        worst = _worst(metric, {format_id: entry.mean for format_id, entry in scored.items()})
        why = f"worst format: {worst}"
    why = f"required: {required.text}; {why}"
    return GateCheck(required.place, metric, outcome, None, mean, required.value, n, why=why)


def _why_missing(current: Baseline, required: Requirement, unscored: Sequence[str]) -> str:
    if unscored:
        reason = current.reasons.get((unscored[0], required.metric))
        names = ", ".join(unscored[:5])
        return f"not scored in {names}" + (f" ({reason})" if reason else "")
    groups = ", ".join(group.replace("-", "_") for group in GROUPS)
    formats = ", ".join(list(current.formats)[:8])
    known = f"groups: {groups}, all; formats: {formats}, …"
    return f"no format of this run is {required.place!r} ({known})"
