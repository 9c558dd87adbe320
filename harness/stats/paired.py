"""Two runs, or two formats, on the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mcnemar(first: Sequence[float], second: Sequence[float]) -> float:
    """Exact two-sided p-value of "both are right equally often", from 0/1 values of the same items (McNemar 1947).

    Only the items that changed count: a binomial test of one half. No change gives 1. Raises ValueError for anything but
    0 and 1 and for lists of different lengths.
    """
    from scipy.stats import binomtest

    pairs = list(zip(first, second, strict=True))
    if any(value not in (0.0, 1.0) for pair in pairs for value in pair):
        raise ValueError("McNemar's test is for 0 and 1")
    lost, won = pairs.count((1.0, 0.0)), pairs.count((0.0, 1.0))
    return float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of "nothing changed": McNemar's exact test for 0/1 values, else the permutation test of the differences' signs (9999 draws)."""
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
    """One-sided p-value of "worse by more than ``margin``", from current − baseline per item (higher is better).

    Small p: the loss is real. The test is of the hypothesis "the mean loss is at most the margin"; for
    0/1 values the exact sign test on the pairs that changed where the margin is 0, otherwise Student's
    on the pairs, which is exact enough from some twenty items on. No difference anywhere gives 1.
    """
    from scipy.stats import binomtest, ttest_1samp

    losses = [-value for value in differences]
    if len(losses) < 2 or math.fsum(losses) / len(losses) <= margin:
        return 1.0
    if margin == 0 and all(value in (-1.0, 0.0, 1.0) for value in losses):
        worse, better = losses.count(1.0), losses.count(-1.0)
        return float(binomtest(worse, worse + better, 0.5, alternative="greater").pvalue)
    if max(losses) - min(losses) <= 1e-9 * max(
        map(abs, losses)
    ):  # no variance but that of rounding
        return 0.0
    return float(ttest_1samp(losses, margin, alternative="greater").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment of several p-values (Holm 1979), in their order.

    Six lines of our own: statsmodels collects garbage at every call, which costs 170 ms beside torch.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted
