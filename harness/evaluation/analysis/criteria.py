"""What a format is compared by: right answers, how they end, their faults, and references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from harness.metrics.registry import METRICS
from harness.records import Evidence

if TYPE_CHECKING:
    from harness.stats import Interval

#: Metric → case id → value, of one format.
Values = Mapping[str, Mapping[str, float]]

LEVEL = 0.05
#: How far right answers, ends, leaks and empty answers may fall behind and the format still works.
MARGIN = 0.10
#: The same for the cost of references, in nats a token.
EXCESS_MARGIN = 0.35
#: The kinds of right answers; each counts the same, however many cases it has.
RIGHT = {"choice": "choices", "on_task": "free answers"}
#: What may go wrong with an answer: whether more is better, and words for the rate.
FAULTS = {
    "stopped": (True, "{:.0%} of the answers end by themselves"),
    "leak": (False, "{:.0%} of the answers leak control text"),
    "empty": (False, "{:.0%} of the answers are empty"),
}
#: What a model may have lost in a format that has a place for it: words for the rate.
ABILITIES = {
    "thinks": "{:.0%} of the answers hold a thought",
    "call_valid": "{:.0%} are valid",
    "call_exact": "{:.0%} are exact",
}
#: Above this many cases of a kind no number is named.
MOST_NEEDED = 20_000
#: Normal quantiles of a test at 5 % and of one at 2.5 % ∕ 5, each with a power of 80 %.
_SEES_NO_LOSS, _SEES_LOSS = 1.645 + 0.842, 2.576 + 0.842


@dataclass(frozen=True, slots=True)
class Criterion:
    """One comparison with the reference, on the cases of both.

    ``loss`` (positive: worse than the reference) has an interval of 90 %, which makes a one-sided
    test at ``level`` (5 %). ``no_worse``: the loss is shown to be below the margin. ``worse``:
    there is one, at half the level divided by the number of criteria; for the cost of references,
    one beyond the margin.
    """

    metric: str
    text: str
    margin: float
    loss: Interval
    no_worse: bool
    worse: bool
    evidence: Evidence
    level: float = LEVEL

    def needed(self) -> int | None:
        """The cases of each kind that show either in 80 of 100 evaluations, if the loss is true.

        These are evaluations of a fixed number of cases, whose tests have the whole 5 %.
        """
        enough = min(self.cases_that_show(loss=False), self.cases_that_show(loss=True))
        return max(self.loss.n + 1, math.ceil(enough)) if 0 < enough < MOST_NEEDED else None

    def cases_that_show(self, *, loss: bool) -> float:
        """The cases that show a loss, or that there is none, if the loss so far is the true one.

        Infinite where it is not, and where there is no interval.
        """
        from scipy.stats import norm

        low, high, value = self.loss.low, self.loss.high, self.loss.value
        allowed = EXCESS_MARGIN if self.metric == "nll_excess" else 0.0
        far = value - allowed if loss else self.margin - value
        if low is None or high is None or far <= 0:
            return math.inf
        error = (high - low) / 2 / float(norm.ppf(1 - self.level))
        return self.loss.n * ((_SEES_LOSS if loss else _SEES_NO_LOSS) * error / far) ** 2


def compare(own: Values, reference: Values, level: float = LEVEL) -> list[Criterion]:
    """The possible comparisons, in order: right answers, faults, abilities, references.

    ``level`` is that of each test of no loss, and of all tests of a loss and of *broken* together.
    """
    pairs = {
        metric: common
        for metric in (*RIGHT, *FAULTS, *ABILITIES)
        if (common := _paired(own.get(metric, {}), reference.get(metric, {})))
    }
    right = [metric for metric in RIGHT if metric in pairs]
    faults = [metric for metric in FAULTS if metric in pairs]
    abilities = [metric for metric in ABILITIES if metric in pairs]
    excess = own.get("nll_excess")
    # Degraded and broken share the 5 % of a format that is as good as the reference.
    tests = bool(right) + len(faults) + len(abilities) + bool(excess)
    levels = _Levels(level, max(1, tests))
    found = [_right_answers(pairs, right, levels)] if right else []
    found += [_rate(metric, *FAULTS[metric], pairs[metric], levels) for metric in faults]
    found += [
        _rate(metric, True, loss_words(metric), pairs[metric], levels) for metric in abilities
    ]
    return [*found, _cost(excess, levels)] if excess else found


def loss_at_most(criteria: Sequence[Criterion]) -> float | None:
    """The largest loss of a rate that is not excluded, at the level of one test; None for no bound.

    The true losses are all below it with that confidence: where one is above, its own bound is
    wrong. The cost of references, in nats, is left out.
    """
    rates = [one for one in criteria if one.metric != "nll_excess"]
    highs = [one.loss.high for one in rates if one.loss.high is not None]
    known = bool(rates) and len(highs) == len(rates)
    return max(highs) if known and max(highs) < 1 else None


def cases_to_a_word(own: Values, reference: Values, level: float = LEVEL) -> float:
    """With how many cases *works* or *degraded* could be shown, if the losses so far are true.

    That is a loss in one comparison, or none in all. References without an interval are left out.
    """
    criteria = [one for one in compare(own, reference, level) if one.loss.low is not None]
    if not criteria:
        return math.inf
    worse = min(one.cases_that_show(loss=True) for one in criteria)
    return min(worse, max(one.cases_that_show(loss=False) for one in criteria))


def loss_words(metric: str) -> str:
    """What the loss of an ability means, and words for its rate."""
    return f"{METRICS[metric].lost}: {ABILITIES[metric]}"


@dataclass(frozen=True, slots=True)
class _Levels:
    """The level of one test of no loss, and the coverage of the intervals that test."""

    level: float
    tests: int

    @property
    def lenient(self) -> float:
        """Of the interval whose upper end is a one-sided test of no loss."""
        return 1 - 2 * self.level

    @property
    def strict(self) -> float:
        """Of the interval whose lower end tests a loss, at half the level for all together."""
        return 1 - self.level / self.tests


@dataclass(frozen=True, slots=True)
class _Pair:
    case: str
    own: float
    reference: float


def _paired(own: Mapping[str, float], reference: Mapping[str, float]) -> list[_Pair]:
    return [_Pair(case, value, reference[case]) for case, value in own.items() if case in reference]


def _right_answers(
    pairs: Mapping[str, Sequence[_Pair]], right: Sequence[str], levels: _Levels
) -> Criterion:
    from harness.stats import mean_difference

    losses = {metric: [pair.reference - pair.own for pair in pairs[metric]] for metric in right}
    text = " and ".join(
        f"{fmean(pair.own for pair in pairs[metric]):.0%} of the {RIGHT[metric]} right against"
        f" {fmean(pair.reference for pair in pairs[metric]):.0%}"
        for metric in right
    )
    loss = mean_difference(list(losses.values()), levels.lenient)
    sure = mean_difference(list(losses.values()), levels.strict)
    worst = max(right, key=lambda metric: fmean(losses[metric]))
    return _criterion(worst, text, MARGIN, loss, sure.above(0.0), pairs[worst], True, levels)


def _rate(
    metric: str, more_is_better: bool, words: str, pairs: Sequence[_Pair], levels: _Levels
) -> Criterion:
    from harness.stats import difference_interval

    sign = 1 if more_is_better else -1
    losses = [sign * (pair.reference - pair.own) for pair in pairs]
    own, reference = fmean(pair.own for pair in pairs), fmean(pair.reference for pair in pairs)
    text = f"{words.format(own)} against {reference:.0%}"
    loss = difference_interval(losses, levels.lenient)
    worse = difference_interval(losses, levels.strict).above(0.0)
    return _criterion(metric, text, MARGIN, loss, worse, pairs, more_is_better, levels)


def _cost(excess: Mapping[str, float], levels: _Levels) -> Criterion:
    """The NLL excess of references, which is a difference to the native format already."""
    from harness.stats import mean_interval

    values = list(excess.values())
    loss = mean_interval(values, level=levels.lenient)
    worse = mean_interval(values, level=levels.strict).above(EXCESS_MARGIN)
    pairs = [_Pair(case, value, 0.0) for case, value in excess.items()]
    text = f"references cost {loss.value:+.2f} nats a token"
    return _criterion("nll_excess", text, EXCESS_MARGIN, loss, worse, pairs, False, levels)


def _criterion(
    metric: str,
    text: str,
    margin: float,
    loss: Interval,
    worse: bool,
    pairs: Sequence[_Pair],
    more_is_better: bool,
    levels: _Levels,
) -> Criterion:
    """``pairs`` are those of ``metric``; of right answers the kind that lost most."""
    sign = 1 if more_is_better else -1
    worst = max(pairs, key=lambda pair: (sign * (pair.reference - pair.own), pair.case))
    evidence = Evidence(
        metric,
        fmean(pair.own for pair in pairs),
        len(pairs),
        reference=fmean(pair.reference for pair in pairs),
        loss=loss.value,
        low=loss.low,
        high=loss.high,
        worst_case=worst.case if sign * (worst.reference - worst.own) > 0 else "",
    )
    # Where there is no interval the loss is not shown either way; only a large one is in the way.
    no_worse = loss.value < margin if loss.high is None else loss.below(margin)
    return Criterion(metric, text, margin, loss, no_worse, worse, evidence, levels.level)
