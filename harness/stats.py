"""Intervals, paired tests and permutation nulls (METRICS §8). Items are clusters, tests are paired, randomness is a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval and the number of items behind it."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of one value per item: Wilson's interval when all are 0 or 1, Student's otherwise. One item has no width to show: its interval is its value."""
    n = len(values)
    mean = math.fsum(values) / n
    if all(value in (0.0, 1.0) for value in values):
        return wilson(round(math.fsum(values)), n)
    if n < 2:
        return Interval(mean, mean, mean, n)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def wilson(successes: int, n: int) -> Interval:
    """Wilson's score interval of a rate (Wilson 1927)."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=0.05, method="wilson")
    return Interval(successes / n, float(low), float(high), n)


def two_way_bootstrap(statistic: Callable[[Matrix], float], table: Matrix, *, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Interval of a statistic of an items × formats table, with items and formats both drawn anew.

    ``table`` is [items, formats] or [items, formats, …]; NaN marks what was not scored, and the
    statistic must bear it. For statements about formats never seen: more items never remove the
    variance between formats.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    items, formats = table.shape[:2]
    found = np.array([statistic(table[rng.integers(0, items, items)][:, rng.integers(0, formats, formats)]) for _ in range(draws)])
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(float(statistic(table)), float(low), float(high), items)


def paired_bootstrap(differences: Sequence[float], *, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Mean of per-item differences with its bootstrap interval."""
    import numpy as np

    values = np.asarray(differences, dtype=float)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), len(values))


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
    if max(losses) - min(losses) <= 1e-9 * max(map(abs, losses)):  # no variance but that of rounding
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


@dataclass(frozen=True, slots=True)
class Spread:
    """Best minus worst format, beside what the same answers give when formats are shuffled within items."""

    best: float
    worst: float
    mean: float
    spread: float
    null_low: float
    null_high: float
    p: float
    formats: int
    n: int


def spread(table: Matrix, *, seed: int = 0, draws: int = DRAWS) -> Spread:
    """Spread over formats of an items × formats table and its permutation null (95 % range).

    The spread of noise alone is far from zero, so it is never shown without the null. Items with a
    missing value are left out.
    """
    import numpy as np

    whole = table[~np.isnan(table).any(1)]
    if whole.size == 0:
        raise ValueError("no item was scored in every format")
    means = whole.mean(0)
    rng = np.random.default_rng(seed)
    null = np.empty(draws)
    for draw in range(draws):
        shuffled = rng.permuted(whole, axis=1).mean(0)
        null[draw] = shuffled.max() - shuffled.min()
    seen = float(means.max() - means.min())
    low, high = np.quantile(null, [0.025, 0.975])
    p = (1 + int((null >= seen - 1e-12).sum())) / (draws + 1)
    return Spread(float(means.max()), float(means.min()), float(means.mean()), seen, float(low), float(high), p, whole.shape[1], whole.shape[0])


def visible_difference(n: int, rate: float = 0.5, correlation: float = 0.5, power: float = 0.8) -> float:
    """The difference between two paired rates that n items see with this power at 5 %, one-sided."""
    from scipy.stats import norm

    z = float(norm.ppf(0.95) + norm.ppf(power))
    return z * math.sqrt(2 * rate * (1 - rate) * (1 - correlation) / n)
