"""Tests of two runs, or two formats, on the same items, and the effect they can find."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.stats.intervals import Matrix


def mcnemar(first: Sequence[float], second: Sequence[float]) -> float:
    """Exact two-sided p-value of "both are right equally often" (McNemar 1947).

    Takes 0/1 values of the same items. Only the items that changed count: a binomial test of one
    half. No change gives 1. Raises ValueError for other values and for different lengths.
    """
    from scipy.stats import binomtest

    pairs = list(zip(first, second, strict=True))
    if any(value not in (0.0, 1.0) for pair in pairs for value in pair):
        raise ValueError("McNemar's test is for 0 and 1")
    lost, won = pairs.count((1.0, 0.0)), pairs.count((0.0, 1.0))
    return float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of "nothing changed".

    McNemar's exact test for 0/1 values, else the permutation test of the signs of the differences
    (9999 draws).
    """
    if all(value in (0.0, 1.0) for value in (*first, *second)):
        return mcnemar(first, second)
    import numpy as np
    from scipy.stats import permutation_test

    differences = np.subtract(second, first)
    if not differences.any():
        return 1.0
    return float(
        permutation_test((differences,), np.mean, permutation_type="samples", rng=seed).pvalue
    )


def loss_test(gains: Sequence[float]) -> float:
    """One-sided p-value of "nothing was lost"; a small one says that the loss is real.

    ``gains`` are current − baseline per item, higher being better. For −1, 0 and 1 it is the exact
    sign test of the items that changed. For other numbers it is the larger of two p-values. The
    permutation of signs is exact where the two runs are alike but for chance (Fisher 1935).
    Student's test after Hall's correction for skewness (1992) is nearer the level where a few items
    gained much and many lost a little, which the permutation takes for a loss. The result is never
    below 2⁻ⁿ for n items that changed, so never 0.
    """
    from scipy.stats import binomtest

    changed = [gain for gain in gains if gain]
    if math.fsum(changed) >= 0:
        return 1.0
    if all(gain in (-1.0, 1.0) for gain in changed):
        worse = changed.count(-1.0)
        p = float(binomtest(worse, len(changed), 0.5, alternative="greater").pvalue)
        return max(p, sys.float_info.min)
    most = max(map(abs, changed))  # in a small unit, powers of the gains would underflow
    shares, changed = [gain / most for gain in gains], [gain / most for gain in changed]
    return min(1.0, max(_sign_permutation(changed), _skewed_student(shares)))


def least_p(gains: Sequence[float]) -> float:
    """The smallest p-value that `loss_test` could give: had every item that changed lost."""
    return max(0.5 ** sum(1 for gain in gains if gain), sys.float_info.min)


#: Up to this many items that changed, all patterns of signs are counted.
_COUNTED = 14


def _sign_permutation(gains: Sequence[float]) -> float:
    """P(a sum of ±|gain| with random signs is at least the loss).

    The gains are shares of the largest, none of them 0.
    Counted for few items, else by Lugannani and Rice's saddlepoint approximation (Robinson 1982),
    whose relative error stays small far out in the tail, where no number of random draws reaches.
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.stats import norm

    sizes, loss = np.abs(np.asarray(gains, dtype=float)), -math.fsum(gains)
    if len(sizes) <= _COUNTED:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums - size, sums + size])
        return float(np.mean(sums >= loss - 1e-9 * sizes.sum()))
    least = max(0.5 ** len(sizes), sys.float_info.min)
    loss -= _grid(sizes)  # the continuity correction: sums of such sizes lie two steps apart
    if loss <= 0:
        return 1.0

    def slope(t: float) -> float:
        return float((sizes * np.tanh(sizes * t)).sum()) - loss

    most = 1e3
    if slope(most) <= 0:  # nearly all items lost
        return least
    t = float(brentq(slope, 0.0, most, xtol=1e-12))
    cumulant = float((np.logaddexp(sizes * t, -sizes * t) - math.log(2)).sum())
    curvature = float((sizes**2 * (1 - np.tanh(sizes * t) ** 2)).sum())
    w, u = math.sqrt(max(0.0, 2 * (t * loss - cumulant))), t * math.sqrt(curvature)
    if w < 1e-3 or u <= 0:
        return 0.5 if w < 1e-3 else least
    tail = float(norm.sf(w) + norm.pdf(w) * (1 / u - 1 / w))
    return min(1.0, max(tail, least))


def _grid(sizes: Matrix) -> float:
    """The step of which all sizes are multiples, such as ¼ for means of four answers; 0: none."""
    import numpy as np

    unit = float(sizes.min())
    if unit < 1e-9:
        return 0.0  # so small a step corrects nothing, and the division could overflow
    for parts in range(1, 13):
        multiples = sizes * parts / unit
        if np.allclose(multiples, np.round(multiples), rtol=0, atol=1e-3):
            return unit / parts
    return 0.0


def _skewed_student(gains: Sequence[float]) -> float:
    """Student's one-sided test of the mean loss, after Hall's cubic correction for skewness."""
    import numpy as np
    from scipy.stats import t

    losses = -np.asarray(gains, dtype=float)
    n, deviation = len(losses), float(losses.std())
    mean = float(losses.mean())
    if deviation <= 1e-9 * abs(mean):
        return 0.0  # all alike: the permutation decides
    skew = float(((losses - mean) ** 3).mean()) / deviation**3
    ratio = mean / deviation
    corrected = ratio + skew * ratio**2 / 3 + skew**2 * ratio**3 / 27 + skew / (6 * n)
    return float(t.sf(math.sqrt(n - 1) * corrected, n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment of several p-values (Holm 1979), in their order.

    Ours, because statsmodels collects garbage at every call, which costs 170 ms beside torch.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def able_to_fail(least: Sequence[float], level: float) -> list[bool]:
    """Which of several tests count: those whose smallest p-value can fail at ``level`` together.

    A test in which too few items changed can never fail, so it needs no share of the level (Tarone
    1990). K is the least number such that at most K tests reach level ∕ K; those count.
    """
    ordered = sorted(least)
    shares = next(
        (k for k in range(1, len(ordered) + 1) if k == len(ordered) or ordered[k] > level / k),
        1,
    )
    return [smallest <= level / shares for smallest in least]


def minimum_detectable_effect(
    n: int, rate: float = 0.5, correlation: float = 0.5, power: float = 0.8
) -> float:
    """The difference of two paired rates that n items find with this power at 5 %, one-sided."""
    from scipy.stats import norm

    quantiles = float(norm.ppf(0.95) + norm.ppf(power))
    return quantiles * math.sqrt(2 * rate * (1 - rate) * (1 - correlation) / n)
