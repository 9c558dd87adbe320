"""Tests of two runs, or two formats, on the same items, and the effect they can find."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence


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


def noninferiority(differences: Sequence[float], margin: float) -> float:
    """One-sided p-value of "worse by more than ``margin``"; a small one says that the loss is real.

    ``differences`` are current − baseline per item, higher being better. The null hypothesis is
    "the mean loss is at most the margin". With a margin of 0 and 0/1 values this is the exact sign
    test on the pairs that changed, otherwise Student's test on the pairs, which is exact enough
    from about twenty items on. Losses that are all alike have no variance for Student's test: they
    get the sign test of n losses beyond the margin, 2⁻ⁿ. A mean loss within the margin, and fewer
    than two items, give 1. The result is never 0.
    """
    from scipy.stats import binomtest, ttest_1samp

    losses = [-value for value in differences]
    if len(losses) < 2 or math.fsum(losses) / len(losses) <= margin:
        return 1.0
    if margin == 0 and all(value in (-1.0, 0.0, 1.0) for value in losses):
        worse, better = losses.count(1.0), losses.count(-1.0)
        return float(binomtest(worse, worse + better, 0.5, alternative="greater").pvalue)
    if max(losses) - min(losses) <= 1e-9 * max(map(abs, losses)):  # alike but for rounding
        p = 0.5 ** len(losses)
    else:
        p = float(ttest_1samp(losses, margin, alternative="greater").pvalue)
    return max(p, sys.float_info.min)  # either underflows with many or nearly equal losses


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


def minimum_detectable_effect(
    n: int, rate: float = 0.5, correlation: float = 0.5, power: float = 0.8
) -> float:
    """The difference of two paired rates that n items find with this power at 5 %, one-sided."""
    from scipy.stats import norm

    quantiles = float(norm.ppf(0.95) + norm.ppf(power))
    return quantiles * math.sqrt(2 * rate * (1 - rate) * (1 - correlation) / n)
