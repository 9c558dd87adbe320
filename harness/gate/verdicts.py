"""Baseline × current → verdicts: which metric was lost in which format, and is the loss real?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.gate.baseline import Baseline, BaselineEntry
from harness.gate.thresholds import Margin
from harness.metrics.registry import METRICS, lower_is_better
from harness.records import GROUPS, GateCheck, Outcome
from harness.stats import holm, noninferiority

#: One-sided level of the gate, after Holm's adjustment over the formats of a metric.
ALPHA = 0.05


def compare_baselines(
    baseline: Baseline,
    current: Baseline,
    margins: Mapping[str, Margin],
    selected: Callable[[BaselineEntry], bool] = lambda _: True,
) -> list[GateCheck]:
    """Judge every entry of either run whose metric has a margin, sorted by format and metric.

    *regressed*: the loss, paired by case, exceeds the margin, and the one-sided test of "worse by
    more than the margin" stays below ``ALPHA`` after Holm's adjustment over the formats of the
    metric. *improved*: the same the other way. *stale*: what was measured is no longer the same
    thing (template, settings). *missing*: nothing can be paired now. *new*: the baseline does not
    have it. Entries of the baseline that are not ``selected`` are left out.

    Beside the formats, the mean over each group of two or more (``held-out formats``) is tested on
    each case's mean over the formats: it finds a loss that is spread over formats and too small to
    be found in any one of them.
    """
    verdicts: list[GateCheck] = []
    for margin in margins.values():
        verdicts += _compare_metric(baseline, current, margin, selected)
    return sorted(verdicts, key=lambda verdict: (verdict.format, verdict.metric))


def _compare_metric(
    baseline: Baseline,
    current: Baseline,
    margin: Margin,
    selected: Callable[[BaselineEntry], bool],
) -> list[GateCheck]:
    before = {
        entry.format: entry
        for entry in baseline.entries
        if entry.metric == margin.metric and selected(entry)
    }
    after = {entry.format: entry for entry in current.entries if entry.metric == margin.metric}
    untested: list[GateCheck] = []
    pairs: list[_Paired] = []
    for format_id in sorted({*before, *after}):
        if margin.metric == "nll_excess" and format_id == current.native:
            continue  # zero by definition: it is what the excess is measured against
        result = _pair(baseline, current, before.get(format_id), after.get(format_id), margin)
        if isinstance(result, GateCheck):
            untested.append(result)
        else:
            pairs.append(result)
    return untested + _test(pairs) + _test(_group_means(pairs, current, margin))


@dataclass(frozen=True, slots=True)
class _Paired:
    """One metric in one format in both runs, on the cases that both scored.

    ``gains`` are current − baseline by case, with the sign changed where lower is better.
    """

    format: str
    metric: str
    margin: float
    was: float
    now: float
    gains: Mapping[str, float]

    def verdict(self, outcome: Outcome, p: float) -> GateCheck:
        worst = min(self.gains, key=lambda case_id: (self.gains[case_id], case_id))
        sign = -1.0 if lower_is_better(self.metric) else 1.0
        interval = METRICS[self.metric].difference([sign * gain for gain in self.gains.values()])
        return GateCheck(
            self.format,
            self.metric,
            outcome,
            self.was,
            self.now,
            self.margin,
            interval.n,
            p,
            worst_case=worst if self.gains[worst] < 0 else "",
            interval=None
            if interval.low is None or interval.high is None
            else (interval.low, interval.high),
        )


def _pair(
    baseline: Baseline,
    current: Baseline,
    old: BaselineEntry | None,
    new: BaselineEntry | None,
    margin: Margin,
) -> GateCheck | _Paired:
    """What is decided without a test (new, missing, stale), or the pairs to test."""
    if old is None:
        assert new is not None  # noqa: S101  # the format is in one of the two
        return GateCheck(
            new.format, new.metric, "new", None, new.mean, margin.of(new.format), new.n
        )

    def untested(outcome: Outcome, n: int, why: str) -> GateCheck:
        now = None if new is None else new.mean
        allowed = margin.of(old.format)
        return GateCheck(old.format, old.metric, outcome, old.mean, now, allowed, n, why=why)

    if new is None:
        return untested("missing", 0, _why_missing(current, old))
    if changed := stale_facts(baseline, current, old.format, old.metric):
        return untested("stale", new.n, "; ".join(changed))
    was, now = baseline.scored(old), current.scored(new)
    digests = baseline.cases[old.kind], current.cases[new.kind]
    common = [
        case_id for case_id in was if case_id in now and digests[0][case_id] == digests[1][case_id]
    ]
    if not common:
        return untested("missing", 0, _why_unpaired(was, now))
    sign = -1.0 if lower_is_better(old.metric) else 1.0
    return _Paired(
        old.format,
        old.metric,
        margin.of(old.format),
        _mean([was[case_id] for case_id in common]),
        _mean([now[case_id] for case_id in common]),
        {case_id: sign * (now[case_id] - was[case_id]) for case_id in common},
    )


def _group_means(pairs: Sequence[_Paired], current: Baseline, margin: Margin) -> list[_Paired]:
    """The mean over each group of formats: a case's gain is its mean over those that scored it."""
    means = []
    for group in GROUPS:
        members = [pair for pair in pairs if current.formats[pair.format].group == group]
        if len(members) < 2:
            continue
        gains: dict[str, list[float]] = {}
        for pair in members:
            for case_id, gain in pair.gains.items():
                gains.setdefault(case_id, []).append(gain)
        means.append(
            _Paired(
                f"{group} formats",
                margin.metric,
                margin.of_group,
                _mean([pair.was for pair in members]),
                _mean([pair.now for pair in members]),
                {case_id: _mean(values) for case_id, values in gains.items()},
            )
        )
    return means


def _test(pairs: Sequence[_Paired]) -> list[GateCheck]:
    """Test the formats of one metric together."""
    worse = holm([noninferiority(list(pair.gains.values()), pair.margin) for pair in pairs])
    better = holm(
        [noninferiority([-gain for gain in pair.gains.values()], pair.margin) for pair in pairs]
    )
    return [_outcome(pair, *both) for pair, *both in zip(pairs, worse, better, strict=True)]


def _outcome(pair: _Paired, worse: float, better: float) -> GateCheck:
    if worse < ALPHA:
        return pair.verdict("regressed", worse)
    if better < ALPHA:
        return pair.verdict("improved", better)
    return pair.verdict("ok", worse)


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


def accepted(verdicts: Sequence[GateCheck]) -> list[GateCheck]:
    """The verdicts of a run that writes the baseline: every difference counts as new, with why."""
    return [
        verdict
        if verdict.outcome in ("ok", "new")
        else replace(verdict, outcome="new", why=_accepted_as(verdict))
        for verdict in verdicts
    ]


def _accepted_as(verdict: GateCheck) -> str:
    if verdict.current is None:
        return f"dropped: {verdict.why}"
    return f"updated: {verdict.outcome}" + (f", {verdict.why}" if verdict.why else "")


def severity(verdict: GateCheck) -> float:
    """How bad a verdict is, to sort by: the loss in margins, or the distance beyond a limit.

    What cannot be compared at all is infinitely bad.
    """
    if verdict.outcome in ("missing", "stale") or verdict.current is None:
        return math.inf
    sign = 1.0 if lower_is_better(verdict.metric) else -1.0
    if verdict.delta is None:
        return sign * (verdict.current - verdict.allowed)
    loss = sign * verdict.delta
    return loss / verdict.allowed if verdict.allowed else math.copysign(math.inf, loss)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
