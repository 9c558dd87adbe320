"""Baseline × current → verdicts: which measure was lost in which format, and is the loss real? Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.gate.baseline import Baseline, MetricScores
from harness.gate.thresholds import Margin, lower_is_better
from harness.records import GROUPS, Outcome, Verdict
from harness.stats import holm, noninferiority

#: One-sided level of the gate, after Holm's adjustment over the formats of a measure.
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class _Pairs:
    """One cell in both runs, on the cases that both scored. ``gains`` are current − baseline, a gain being positive."""

    format: str
    metric: str
    margin: float
    was: float
    now: float
    gains: Mapping[str, float]

    def verdict(self, outcome: Outcome, p: float | None) -> Verdict:
        worst = min(self.gains, key=lambda id: (self.gains[id], id))
        worst_case = worst if self.gains[worst] < 0 else ""
        return Verdict(
            self.format,
            self.metric,
            outcome,
            self.was,
            self.now,
            self.margin,
            len(self.gains),
            p,
            "",
            worst_case,
            self._interval(),
        )

    def _interval(self) -> tuple[float, float] | None:
        """Student's interval of the mean of current − baseline; None for a single case."""
        from scipy.stats import t

        n = len(self.gains)
        if n < 2:
            return None
        mean = _mean(list(self.gains.values()))
        deviation = math.sqrt(
            math.fsum((gain - mean) ** 2 for gain in self.gains.values()) / (n - 1)
        )
        half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
        centre = -mean if lower_is_better(self.metric) else mean
        return centre - half, centre + half


def compare_baselines(
    baseline: Baseline,
    current: Baseline,
    margins: Mapping[str, Margin],
    selected: Callable[[MetricScores], bool] = lambda _: True,
) -> list[Verdict]:
    """Judge every gated cell of either run, sorted by format and measure.

    A cell has *regressed* when its loss, paired by case, is more than its margin and the one-sided test of
    "worse by more than the margin" stays below ``ALPHA`` after Holm's adjustment over the formats of the
    measure; it has *improved* when the same holds the other way. It is *stale* when what was measured is no
    longer the same thing (template, settings), *missing* when there is nothing to pair now, and *new* when
    the baseline does not have it. Baseline cells that are not ``selected`` are passed over; a cell that was
    scored in neither run is none.

    Beside the cells stands the mean over each group of two formats or more (``held-out formats``), tested on the
    cases' means over the formats: it sees a loss that is spread over formats and too small to be seen in any one.
    """
    verdicts: list[Verdict] = []
    for margin in margins.values():
        verdicts += _compare_measure(baseline, current, margin, selected)
    return sorted(verdicts, key=lambda verdict: (verdict.format, verdict.metric))


def _compare_measure(
    baseline: Baseline, current: Baseline, margin: Margin, selected: Callable[[MetricScores], bool]
) -> list[Verdict]:
    before = {
        cell.format: cell
        for cell in baseline.cells
        if cell.metric == margin.metric and selected(cell)
    }
    after = {cell.format: cell for cell in current.cells if cell.metric == margin.metric}
    settled: list[Verdict] = []
    pairs: list[_Pairs] = []
    for format in sorted({*before, *after}):
        if margin.metric == "nll_excess" and format == current.native:
            continue  # zero by definition: it is what the excess is measured against
        found = _settle(baseline, current, before.get(format), after.get(format), margin)
        if isinstance(found, Verdict):
            settled.append(found)
        else:
            pairs.append(found)
    return settled + _judge(pairs) + _judge(_pooled(pairs, current, margin))


def _pooled(pairs: Sequence[_Pairs], current: Baseline, margin: Margin) -> list[_Pairs]:
    """The pairs of each group's mean: a case's gain is its mean over the formats that scored it, so that cases are the clusters."""
    found = []
    for group in GROUPS:
        members = [pair for pair in pairs if current.formats[pair.format].group == group]
        if len(members) < 2:
            continue
        gains: dict[str, list[float]] = {}
        for pair in members:
            for id, gain in pair.gains.items():
                gains.setdefault(id, []).append(gain)
        means = {id: _mean(values) for id, values in gains.items()}
        was, now = _mean([pair.was for pair in members]), _mean([pair.now for pair in members])
        found.append(_Pairs(f"{group} formats", margin.metric, margin.of_group, was, now, means))
    return found


def _settle(
    baseline: Baseline,
    current: Baseline,
    old: MetricScores | None,
    new: MetricScores | None,
    margin: Margin,
) -> Verdict | _Pairs:
    """What is decided without a test (new, missing, stale), or the pairs to test."""
    if old is None:
        assert new is not None  # noqa: S101  # the format stands in one of the two
        return Verdict(new.format, new.metric, "new", None, new.mean, margin.of(new.format), new.n)
    allowed = margin.of(old.format)
    if new is None:
        return Verdict(
            old.format,
            old.metric,
            "missing",
            old.mean,
            None,
            allowed,
            0,
            why=_why_missing(current, old),
        )
    if changed := stale_facts(baseline, current, old.format, old.metric):
        return Verdict(
            old.format,
            old.metric,
            "stale",
            old.mean,
            new.mean,
            allowed,
            new.n,
            why="; ".join(changed),
        )
    was, now = baseline.scored(old), current.scored(new)
    same = [
        id
        for id in was
        if id in now and baseline.cases[old.kind][id] == current.cases[new.kind][id]
    ]
    if not same:
        return Verdict(
            old.format,
            old.metric,
            "missing",
            old.mean,
            new.mean,
            allowed,
            0,
            why=_why_apart(was, now),
        )
    sign = -1.0 if lower_is_better(old.metric) else 1.0
    gains = {id: sign * (now[id] - was[id]) for id in same}
    return _Pairs(
        old.format,
        old.metric,
        allowed,
        _mean([was[id] for id in same]),
        _mean([now[id] for id in same]),
        gains,
    )


def _judge(pairs: Sequence[_Pairs]) -> list[Verdict]:
    """Test the formats of one measure together."""
    worse = _adjusted([noninferiority(list(pair.gains.values()), pair.margin) for pair in pairs])
    better = _adjusted(
        [noninferiority([-gain for gain in pair.gains.values()], pair.margin) for pair in pairs]
    )
    return [_outcome(pair, *both) for pair, *both in zip(pairs, worse, better, strict=True)]


def _adjusted(p_values: list[float]) -> list[float]:
    """Holm's adjustment. Where nothing was lost it is not called at all: statsmodels collects garbage on every call."""
    return p_values if all(p == 1.0 for p in p_values) else holm(p_values)


def _outcome(pair: _Pairs, worse: float, better: float) -> Verdict:
    gain = _mean(list(pair.gains.values()))
    if worse < ALPHA and -gain > pair.margin:
        return pair.verdict("regressed", worse)
    if better < ALPHA and gain > pair.margin:
        return pair.verdict("improved", better)
    return pair.verdict("ok", worse)


def stale_facts(baseline: Baseline, current: Baseline, format: str, metric: str) -> list[str]:
    """What differs in the thing that was measured, in words. These are compared by equality, without margin."""
    facts = []
    if _digest(baseline, format) != _digest(current, format):
        facts.append(f"the template of {format} changed")
    else:
        facts += _rendered_otherwise(baseline, current, format)
    keys = sorted({*baseline.settings, *current.settings})
    facts += [
        f"{key} was {baseline.settings.get(key)}, is {current.settings.get(key)}"
        for key in keys
        if baseline.settings.get(key) != current.settings.get(key)
    ]
    if metric == "nll_excess" and baseline.native != current.native:
        facts.append(f"the native format was {baseline.native}, is {current.native}")
    elif (
        metric == "nll_excess"
        and current.native
        and _digest(baseline, current.native) != _digest(current, current.native)
    ):
        facts.append(f"the template of {current.native}, the native format, changed")
    return facts


def _rendered_otherwise(baseline: Baseline, current: Baseline, format: str) -> list[str]:
    """The properties that changed of a format whose template did not: how templates are run has changed."""
    was, now = baseline.formats[format], current.formats[format]
    names = sorted({*was.facts, *now.facts})
    changed = [
        f"{name} was {was.facts.get(name)}, is {now.facts.get(name)}"
        for name in names
        if was.facts.get(name) != now.facts.get(name)
    ]
    if was.rendered != now.rendered or changed:
        return [f"{format} is rendered otherwise", *changed]
    return []


def _digest(run: Baseline, format: str) -> str:
    return run.formats[format].digest if format in run.formats else ""


def _why_missing(current: Baseline, old: MetricScores) -> str:
    if old.format not in current.formats:
        return "the format was not evaluated"
    return current.reasons.get((old.format, old.metric)) or f"no {old.kind} case was evaluated"


def _why_apart(was: Mapping[str, float], now: Mapping[str, float]) -> str:
    if rewritten := len(was.keys() & now.keys()):
        return f"no case in common with the baseline: {rewritten} of its {len(was)} cases were rewritten, the others are gone"
    return f"no case in common with the baseline ({len(was)} there, {len(now)} here)"


def accepted(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of a run that writes the baseline: every difference from the old one is taken as new, and named."""
    return [
        verdict
        if verdict.outcome in ("ok", "new")
        else replace(verdict, outcome="new", why=_accepted_as(verdict))
        for verdict in verdicts
    ]


def _accepted_as(verdict: Verdict) -> str:
    if verdict.current is None:
        return f"dropped: {verdict.why}"
    return f"updated: {verdict.outcome}" + (f", {verdict.why}" if verdict.why else "")


def loss(verdict: Verdict) -> float:
    """How bad a verdict is, to put the worst first: times the margin lost, or distance beyond an absolute limit.

    What cannot be compared at all is infinitely bad.
    """
    if verdict.outcome in ("missing", "stale") or verdict.current is None:
        return math.inf
    sign = 1.0 if lower_is_better(verdict.metric) else -1.0
    if verdict.delta is None:
        return sign * (verdict.current - verdict.allowed)
    lost = sign * verdict.delta
    return lost / verdict.allowed if verdict.allowed else math.copysign(math.inf, lost)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
