"""Baseline × current → checks: what was lost in which format, and what cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from harness.gate.baseline import Baseline, BaselineEntry
from harness.gate.decide import Paired, Values, decide
from harness.gate.thresholds import Tolerance
from harness.metrics.registry import METRICS, lower_is_better
from harness.records import GROUPS, GateCheck, Outcome

LEAST_OTHERS = 2
"""Other formats that a format is compared with; one alone would mirror its losses as gains."""


def compare_baselines(
    baseline: Baseline,
    current: Baseline,
    tolerances: Mapping[str, Tolerance],
    selected: Callable[[BaselineEntry], bool] = lambda _: True,
) -> list[GateCheck]:
    """Check every entry of either run whose metric has a tolerance, by format and metric.

    What both runs scored is decided case by case (decide.py): *passed*, *improved*, *failed* or
    *inconclusive*. *stale*: what was measured is no longer the same thing (template, settings).
    *missing*: nothing can be paired now. *new*: the baseline does not have it. Entries of the
    baseline that are not ``selected`` are left out.
    """
    untested, pairs = paired_values(baseline, current, tolerances, selected)
    return sorted(untested + decide(pairs), key=lambda check: (check.format, check.metric))


def paired_values(
    baseline: Baseline,
    current: Baseline,
    tolerances: Mapping[str, Tolerance],
    selected: Callable[[BaselineEntry], bool] = lambda _: True,
) -> tuple[list[GateCheck], list[Paired]]:
    """What is decided without a test, and the pairs that are to be tested together.

    Beside the formats, the mean over each group of two or more (``held-out formats``) is tested on
    each case's mean over the formats: it finds a loss that is spread over formats and too small to
    be found in any one of them.
    """
    untested: list[GateCheck] = []
    pairs: list[Paired] = []
    for tolerance in tolerances.values():
        found = _compare_metric(baseline, current, tolerance, selected)
        own = _with_elsewhere([pair for pair in found if isinstance(pair, Paired)])
        untested += [check for check in found if isinstance(check, GateCheck)]
        pairs += [*own, *_group_means(own, current, tolerance)]
    return untested, pairs


def _compare_metric(
    baseline: Baseline,
    current: Baseline,
    tolerance: Tolerance,
    selected: Callable[[BaselineEntry], bool],
) -> list[GateCheck | Paired]:
    before = {
        entry.format: entry
        for entry in baseline.entries
        if entry.metric == tolerance.metric and selected(entry)
    }
    after = {entry.format: entry for entry in current.entries if entry.metric == tolerance.metric}
    return [
        _pair(baseline, current, before.get(format_id), after.get(format_id), tolerance)
        for format_id in sorted({*before, *after})
        # The excess in the native format is 0 by definition: it is what excess is measured against.
        if not (tolerance.metric == "nll_excess" and format_id == current.native)
    ]


def _pair(
    baseline: Baseline,
    current: Baseline,
    old: BaselineEntry | None,
    new: BaselineEntry | None,
    tolerance: Tolerance,
) -> GateCheck | Paired:
    """What is decided without a test (new, missing, stale), or the pairs to test."""
    if old is None:
        assert new is not None  # noqa: S101  # the format is in one of the two
        return GateCheck(
            new.format, new.metric, "new", None, new.mean, tolerance.of(new.format), new.n
        )

    def untested(outcome: Outcome, n: int, why: str) -> GateCheck:
        now = None if new is None else new.mean
        allowed = tolerance.of(old.format)
        return GateCheck(old.format, old.metric, outcome, old.mean, now, allowed, n, why=why)

    # A missing thought cannot drift, and the metric that this one is scored with reports its loss.
    needed = METRICS[old.metric].scored_with
    reported = bool(needed) and current.entry(old.format, needed) is not None
    missing: Outcome = "inconclusive" if reported else "missing"
    if new is None:
        return untested(missing, 0, _why_missing(current, old))
    if changed := stale_facts(baseline, current, old.format, old.metric):
        return untested("stale", new.n, "; ".join(changed))
    was, now = baseline.scored(old), current.scored(new)
    digests = baseline.cases[old.kind], current.cases[new.kind]
    common = [
        case_id for case_id in was if case_id in now and digests[0][case_id] == digests[1][case_id]
    ]
    if not common:
        return untested(missing, 0, _why_unpaired(was, now))
    return Paired(
        old.format,
        old.metric,
        tolerance.of(old.format),
        {case_id: was[case_id] for case_id in common},
        {case_id: now[case_id] for case_id in common},
        _margins(baseline, current, old, common),
    )


def _margins(
    baseline: Baseline, current: Baseline, old: BaselineEntry, cases: Sequence[str]
) -> tuple[Values, Values] | None:
    """The values of the continuous metric behind this one, where both runs have all of them."""
    if not (margin := METRICS[old.metric].tested_by):
        return None
    found = []
    for run in (baseline, current):
        entry = run.entry(old.format, margin)
        values = {} if entry is None else run.scored(entry)
        if not all(case_id in values for case_id in cases):
            return None
        found.append({case_id: values[case_id] for case_id in cases})
    return found[0], found[1]


def _with_elsewhere(pairs: Sequence[Paired]) -> list[Paired]:
    """The pairs of one metric, each with the mean gain of the other formats' margins by case.

    Only where every case of the pair was scored in enough other formats.
    """
    gains = {
        pair.format: dict(zip(pair.before, found, strict=True))
        for pair in pairs
        if (found := pair.margin_gains) is not None
    }
    by_case = _by_case(gains.values())
    sums = {case_id: math.fsum(values) for case_id, values in by_case.items()}

    def elsewhere(own: Values) -> Values | None:
        if any(len(by_case[case_id]) <= LEAST_OTHERS for case_id in own):
            return None
        return {
            case_id: (sums[case_id] - gain) / (len(by_case[case_id]) - 1)
            for case_id, gain in own.items()
        }

    return [
        replace(pair, elsewhere=elsewhere(gains[pair.format])) if pair.format in gains else pair
        for pair in pairs
    ]


def _group_means(pairs: Sequence[Paired], current: Baseline, tolerance: Tolerance) -> list[Paired]:
    """The mean over each group of formats: a case's value is its mean over those that scored it."""
    means = []
    for group in GROUPS:
        members = [pair for pair in pairs if current.formats[pair.format].group == group]
        if len(members) < 2:
            continue
        margins = [pair.margins for pair in members if pair.margins is not None]
        means.append(
            Paired(
                f"{group} formats",
                tolerance.metric,
                tolerance.of_group,
                _case_means([pair.before for pair in members]),
                _case_means([pair.after for pair in members]),
                (_case_means([was for was, _ in margins]), _case_means([now for _, now in margins]))
                if len(margins) == len(members)
                else None,
            )
        )
    return means


def _case_means(formats: Iterable[Values]) -> dict[str, float]:
    """Each case's mean over the formats that scored it."""
    by_case = _by_case(formats)
    return {case_id: math.fsum(values) / len(values) for case_id, values in by_case.items()}


def _by_case(formats: Iterable[Values]) -> dict[str, list[float]]:
    """Each case's values in the formats that scored it."""
    by_case: dict[str, list[float]] = {}
    for values in formats:
        for case_id, value in values.items():
            by_case.setdefault(case_id, []).append(value)
    return by_case


def stale_facts(baseline: Baseline, current: Baseline, format_id: str, metric: str) -> list[str]:
    """What differs in the thing that was measured, in words: compared by equality."""
    facts = []
    if _digest(baseline, format_id) != _digest(current, format_id):
        facts.append(f"the template of {format_id} changed")
    else:
        facts += _changed_rendering(baseline, current, format_id)
    facts += _differences(baseline.settings, current.settings)
    native = current.native
    if metric == "nll_excess" and baseline.native != native:
        facts.append(f"the native format was {baseline.native}, is {native}")
    elif (
        metric == "nll_excess" and native and _digest(baseline, native) != _digest(current, native)
    ):
        facts.append(f"the template of {native}, the native format, changed")
    return facts


def _changed_rendering(baseline: Baseline, current: Baseline, format_id: str) -> list[str]:
    """What changed in a format whose template did not: the way templates are run has changed."""
    was, now = baseline.formats[format_id], current.formats[format_id]
    changed = _differences(was.facts, now.facts)
    if was.rendered != now.rendered or changed:
        return [f"{format_id} is rendered differently", *changed]
    return []


def _differences(was: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [
        f"{key} was {was.get(key)}, is {now.get(key)}"
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key)
    ]


def _digest(run: Baseline, format_id: str) -> str:
    return run.formats[format_id].digest if format_id in run.formats else ""


def _why_missing(current: Baseline, old: BaselineEntry) -> str:
    if old.format not in current.formats:
        return "the format was not evaluated"
    return current.reasons.get((old.format, old.metric)) or f"no {old.kind} case was evaluated"


def _why_unpaired(was: Mapping[str, float], now: Mapping[str, float]) -> str:
    message = "no case in common with the baseline"
    if rewritten := len(was.keys() & now.keys()):
        return f"{message}: {rewritten} of its {len(was)} cases were rewritten, the others are gone"
    return f"{message} ({len(was)} there, {len(now)} here)"


def accepted(checks: Sequence[GateCheck]) -> list[GateCheck]:
    """The checks of a run that writes the baseline: every difference counts as new, with why."""
    return [
        check
        if check.outcome in ("passed", "new")
        else replace(check, outcome="new", why=_accepted_as(check))
        for check in checks
    ]


def _accepted_as(check: GateCheck) -> str:
    if check.outcome == "inconclusive" and not check.delta:
        return ""
    if check.current is None:
        return f"dropped: {check.why}"
    return f"updated: {check.outcome}" + (f", {check.why}" if check.why else "")


def severity(check: GateCheck) -> float:
    """How bad a check is, to sort by: the loss in tolerances, or the distance beyond a limit.

    What cannot be compared at all is infinitely bad.
    """
    if check.outcome in ("missing", "stale") or check.current is None:
        return math.inf
    sign = 1.0 if lower_is_better(check.metric) else -1.0
    if check.delta is None:
        return sign * (check.current - check.allowed)
    loss = sign * check.delta
    return loss / check.allowed if check.allowed else math.copysign(math.inf, loss)
