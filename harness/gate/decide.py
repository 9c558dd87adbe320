"""Paired values → outcomes: which loss is real, which is shown to be small, which cannot be seen.

failed: the test of "nothing was lost" rejects at `ALPHA` over all tests of the run together, and
the mean loss is at least the tolerance. passed: the loss is shown to be below the tolerance.
inconclusive: neither, so these cases cannot tell. benchmarks/gate.py simulates how often each is
right; docs/gate.md has its table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.metrics.registry import METRICS, lower_is_better
from harness.records import GateCheck, Outcome
from harness.stats import able_to_fail, holm, least_p, loss_test

ALPHA = 0.01
"""The chance that a run in which nothing was lost fails at all, over all its tests (Holm)."""
SHOWN = 0.05
"""The chance that a loss of the tolerance passes as smaller (one-sided non-inferiority)."""
OWN = 0.05
"""The level at which a format must show a loss of its own before it is compared with the others."""
POWER = 0.80
"""The power at which a number of cases is said to decide."""


Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Paired:
    """One metric in one format in both runs: case id → value, of the cases that both scored.

    ``margins`` are the values, in both runs, of the continuous metric behind this one, where both
    have them: for choices the log-probability of the right option minus that of the best wrong one.
    """

    format: str
    metric: str
    tolerance: float
    before: Values
    after: Values
    margins: tuple[Values, Values] | None = None
    elsewhere: Values | None = None
    """The mean gain of the margins in the other formats, by case."""

    @property
    def gains(self) -> list[float]:
        """Current − baseline by case, with the sign changed where lower is better."""
        sign = -1.0 if lower_is_better(self.metric) else 1.0
        return [sign * (now - was) for was, now in self._both(self.before, self.after)]

    @property
    def margin_gains(self) -> list[float] | None:
        """The same of the margins, of which more is always better."""
        if self.margins is None:
            return None
        return [now - was for was, now in self._both(*self.margins)]

    @property
    def gains_apart(self) -> list[float] | None:
        """By how much each case's margin gained more here than in the other formats.

        What a fine-tune does to a case in every format is no noise here, half of it or more.
        """
        if self.elsewhere is None or (gains := self.margin_gains) is None:
            return None
        return [
            gain - self.elsewhere[case_id] for case_id, gain in zip(self.before, gains, strict=True)
        ]

    def _both(self, before: Values, after: Values) -> list[tuple[float, float]]:
        return [(before[case_id], after[case_id]) for case_id in self.before]

    @property
    def loss(self) -> float:
        """The mean loss; below 0 for a gain."""
        gains = self.gains
        return -math.fsum(gains) / len(gains)

    @property
    def unchanged(self) -> bool:
        """Whether a quantity that is continuous is equal in every case, so nothing can differ."""
        if METRICS[self.metric].binary:
            return self.margins is not None and not any(self.margin_gains or ())
        return not any(self.gains)

    def turned(self) -> Paired:
        """The same with the two runs exchanged."""
        margins = None if self.margins is None else self.margins[::-1]
        elsewhere = self.elsewhere and {key: -gain for key, gain in self.elsewhere.items()}
        return replace(
            self, before=self.after, after=self.before, margins=margins, elsewhere=elsewhere
        )


def decide(pairs: Sequence[Paired]) -> list[GateCheck]:
    """The outcome of each pair; all of them are one family of tests."""
    worse, share = family(pairs)
    better, _ = family([pair.turned() for pair in pairs])
    return [
        _decided(pair, loss, gain, share)
        for pair, loss, gain in zip(pairs, worse, better, strict=True)
    ]


def family(pairs: Sequence[Paired]) -> tuple[list[float], float]:
    """Holm's p-values of "nothing was lost", and the level that the smallest one has to reach.

    Tests that cannot fail, because too few cases changed, do not count. Their own p-value is shown
    times the number of all tests, which is above the level.
    """
    least = [_least(pair) for pair in pairs]
    counted = able_to_fail(least, ALPHA)
    raw = [loss_p(pair) for pair in pairs]
    adjusted = iter(holm([p for p, counts in zip(raw, counted, strict=True) if counts]))
    share = ALPHA / max(1, sum(counted))
    return [
        next(adjusted) if counts else min(1.0, p * len(pairs))
        for p, counts in zip(raw, counted, strict=True)
    ], share


def loss_p(pair: Paired) -> float:
    """The p-value of "nothing was lost" in one pair, alone.

    Of one to three tests, the smallest p-value times their number (Bonferroni): of the values,
    which finds a few that turned; of the margins, which finds a small shift of every case; and of
    the margins against the other formats, which finds a small shift of this format alone. The
    last says only that less was gained here than elsewhere, so it counts where the others find a
    loss at `OWN`.
    """
    tests = [loss_test(pair.gains)]
    if (margins := pair.margin_gains) is not None:
        tests.append(loss_test(margins))
    if (apart := pair.gains_apart) is not None:
        own = len(tests) * min(tests)
        tests.append(loss_test(apart) if own <= OWN else 1.0)
    return min(1.0, len(tests) * min(tests))


def _least(pair: Paired) -> float:
    """The smallest p-value that `loss_p` could give."""
    tests = [
        gains for gains in (pair.gains, pair.margin_gains, pair.gains_apart) if gains is not None
    ]
    return min(1.0, len(tests) * min(map(least_p, tests)))


def _decided(pair: Paired, worse: float, better: float, share: float) -> GateCheck:
    if worse <= ALPHA and _reaches(pair.loss, pair.tolerance):
        return _check(pair, "failed", worse)
    if better <= ALPHA and _reaches(-pair.loss, pair.tolerance):
        return _check(pair, "improved", better)
    if shown_small(pair):
        return _check(pair, "passed", worse)
    return _check(pair, "inconclusive", worse, cases_needed(pair, share))


def _reaches(change: float, tolerance: float) -> bool:
    """Whether a change is at least the tolerance, but for rounding. None is no change."""
    return change > 0 and change >= tolerance - 1e-9


def shown_small(pair: Paired) -> bool:
    """Whether the loss is shown to be below the tolerance: non-inferiority at `SHOWN`."""
    if pair.unchanged:
        return True
    between = METRICS[pair.metric].difference(pair.gains, level=1 - 2 * SHOWN)
    return between.above(-pair.tolerance)


def cases_needed(pair: Paired, share: float) -> int:
    """About how many such cases would decide at `POWER`, if the loss is what it is now.

    0 where one case or equal gains leave no idea of the noise.
    """
    from scipy.stats import norm

    gains, loss = pair.gains, pair.loss
    variance = math.fsum(gain**2 for gain in gains) / len(gains) - loss**2
    # The interval of a rate counts a gain and a loss more than there are (difference_interval).
    extra = 2 if METRICS[pair.metric].binary else 0
    lost = _reaches(loss, pair.tolerance)
    distance = loss if lost else pair.tolerance - loss
    if distance <= 0 or (variance <= 1e-12 and not extra):
        return 0
    quantiles = float(norm.isf(share if lost else SHOWN) + norm.ppf(POWER))
    # n with (variance + extra ∕ n) ∕ n = (distance ∕ quantiles)²
    spread = quantiles**2 * max(variance, 0.0)
    root = math.sqrt(spread**2 + 4 * extra * (distance * quantiles) ** 2)
    return max(len(gains) + 1, math.ceil((spread + root) / (2 * distance**2)))


def _check(pair: Paired, outcome: Outcome, p: float, needed: int = 0) -> GateCheck:
    gains = dict(zip(pair.before, pair.gains, strict=True))
    worst = min(gains, key=lambda case_id: (gains[case_id], case_id))
    sign = -1.0 if lower_is_better(pair.metric) else 1.0
    between = METRICS[pair.metric].difference([sign * gain for gain in gains.values()])
    ends = None if between.low is None or between.high is None else (between.low, between.high)
    return GateCheck(
        pair.format,
        pair.metric,
        outcome,
        math.fsum(pair.before.values()) / len(gains),
        math.fsum(pair.after.values()) / len(gains),
        pair.tolerance,
        len(gains),
        p,
        why=between.why if outcome == "inconclusive" else "",
        worst_case=worst if gains[worst] < 0 else "",
        interval=ends,
        needed=needed,
    )
