"""95 % intervals of rates, of means and of differences, or the reason why there is none.

Each takes one value per item, or an items × formats table with NaN where nothing was scored. Of a
table the mean over its cells is meant, in these formats and with items as clusters: K answers to
one item are not K items (Miller 2024, arXiv 2411.00640). No interval here speaks of formats that
were not measured; `least_share` of format_effects.py does. docs/performance.md has the simulated
coverage of all of them, made by benchmarks/coverage.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: An array of numbers. numpy is imported where it is needed, so that `harness --help` is quick.
Matrix: TypeAlias = "NDArray[Any]"

LEAST_ITEMS = 30
"""Below this many items no interval of a mean is given: with 24 items the chance is 8 % that none
of a tenth of costly items is among them, and nothing in the data would show it."""
MOST_SKEW = 0.3
"""A mean whose values have a skewness above this times √n gets no interval."""
RARE = 10
"""From about this many items with an event on, the design effect can be believed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, its 95 % interval and the number of items behind it.

    ``low`` and ``high`` are None where no interval can be given, and ``why`` says why.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    why: str = ""

    def above(self, limit: float) -> bool:
        """Whether all of it is above a limit; False where there is no interval."""
        return self.low is not None and self.low > limit

    def below(self, limit: float) -> bool:
        """Whether all of it is below a limit; False where there is no interval."""
        return self.high is not None and self.high < limit


def wilson(rate: float, n: float, quantile: float = 1.9599639845400545) -> tuple[float, float]:
    """Wilson's score interval (1927) of a rate over ``n`` items, which need not be a whole number.

    With one to three events its near end is too far from 0: there the Poisson limit is taken
    (Brown, Cai and DasGupta 2001, the modified Wilson interval), and likewise near 1. Without it
    a rate of .01 over 12 items is covered in 88.6 %. ``quantile`` sets the level: 1.96 for 95 %.
    """
    from scipy.stats import chi2, norm

    width = 1 + quantile**2 / n
    centre = (rate + quantile**2 / (2 * n)) / width
    half = quantile * math.sqrt(rate * (1 - rate) / n + quantile**2 / (4 * n**2)) / width
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    few = (2 if n <= 50 else 3) + 0.5
    tail = float(norm.sf(quantile))
    if 0 < rate * n <= few:
        low = min(low, float(chi2.ppf(tail, 2 * rate * n)) / (2 * n))
    if 0 < (1 - rate) * n <= few:
        high = max(high, 1 - float(chi2.ppf(tail, 2 * (1 - rate) * n)) / (2 * n))
    return (0.0 if rate == 0 else low), (1.0 if rate == 1 else high)


def rate_interval(values: Sequence[float] | Matrix, level: float = 0.95) -> Interval:
    """Interval of a rate: Wilson's on the effective number of items.

    Each value is 0 or 1, or the mean of such. The effective number is p(1 − p) ∕ SE², read at
    Student's quantile (Korn and Graubard 1998). With few items that have an event the standard
    error cannot be believed, so the number is then drawn towards that of the items. It is never
    below 0 or above 1, and a count of 0 has a width. Raises ValueError when nothing was scored.
    """
    import numpy as np
    from scipy.stats import norm, t

    items, cells = _items(values)
    n, rate = len(items), min(1.0, max(0.0, float(items.mean())))
    most = n * (cells if cells > 1 else _denominator(items))
    tail = 0.5 + level / 2
    if most == n or n < 2:
        low, high = wilson(rate, n, float(norm.ppf(tail)))
        return Interval(rate, low, high, n)
    variance = float(items.var(ddof=1)) / n
    effective = min(most, rate * (1 - rate) / variance) if variance > 0 else most
    if rate in (0.0, 1.0):
        effective = n
    events = min(int(np.sum(items > 1e-9)), int(np.sum(items < 1 - 1e-9)))
    effective = min(effective, n + (effective - n) * events / (events + RARE))
    low, high = wilson(rate, effective, float(t.ppf(tail, n - 1)))
    return Interval(rate, low, high, n)


def mean_interval(
    values: Sequence[float] | Matrix,
    lowest: float = -math.inf,
    highest: float = math.inf,
    level: float = 0.95,
) -> Interval:
    """Interval of a mean of any numbers: Student's after Hall's correction for skewness (1992).

    ``lowest`` and ``highest`` are what a value can be. There is no interval of fewer than 30
    items, and of values so skewed that none would cover. Values that are all equal have a width
    of 0 only where a value can be anything, and else Wilson's. Raises ValueError when nothing was
    scored.
    """
    from scipy.stats import t

    items, _ = _items(values)
    n, mean = len(items), float(items.mean())
    if not math.isfinite(mean):
        return Interval(mean, None, None, n, "a value is not finite")
    if n < LEAST_ITEMS:
        return Interval(mean, None, None, n, f"{n} items are too few, {LEAST_ITEMS} are needed")
    deviation = float(items.std())
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        if math.isinf(highest - lowest):
            return Interval(mean, mean, mean, n)
        ends = wilson((mean - lowest) / (highest - lowest), n)
        low, high = (lowest + end * (highest - lowest) for end in ends)
        return Interval(mean, low, high, n)
    skew = float((((items - mean) / deviation) ** 3).mean())
    if abs(skew) > MOST_SKEW * math.sqrt(n):
        return Interval(mean, None, None, n, "a few extreme values decide the mean")
    quantile, scale = float(t.ppf(0.5 + level / 2, n - 1)), deviation * math.sqrt(n / (n - 1))
    tails = (mean - scale * _hall(end, skew, n) for end in (quantile, -quantile))
    low, high = (min(highest, max(lowest, end)) for end in tails)
    return Interval(mean, low, high, n)


def _hall(quantile: float, skew: float, n: int) -> float:
    """The inverse of Hall's cubic transformation of the studentised mean, divided by √n."""
    if abs(skew) < 1e-6:
        return quantile / math.sqrt(n)
    inner = 1 + skew * (quantile / math.sqrt(n) - skew / (6 * n))
    return 3 / skew * (math.copysign(abs(inner) ** (1 / 3), inner) - 1)


def difference_interval(values: Sequence[float] | Matrix, level: float = 0.95) -> Interval:
    """Interval of the mean difference of two paired rates; each value is between −1 and 1.

    One item that gained and one that lost are added, so that a few changes, or none, never give a
    width of 0 (Bonett and Price 2012); in a table of K formats they count 1∕√K. Raises ValueError
    when nothing was scored.
    """
    return mean_difference([values], level)


def mean_difference(groups: Sequence[Sequence[float] | Matrix], level: float = 0.95) -> Interval:
    """Interval of the mean of several differences of paired rates, each of items of its own.

    Every group counts the same, however many items it has. Student's quantile is read at
    Satterthwaite's degrees of freedom. Raises ValueError when a group was not scored.
    """
    from scipy.stats import t

    parts = [_adjusted(*_items(values)) for values in groups]
    value = math.fsum(part.value for part in parts) / len(parts)
    centre = math.fsum(part.centre for part in parts) / len(parts)
    variance = math.fsum(part.variance for part in parts)
    freedom = variance**2 / math.fsum(part.variance**2 / (part.n + 1) for part in parts)
    half = float(t.ppf(0.5 + level / 2, freedom)) * math.sqrt(variance) / len(parts)
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Interval(value, low, high, min(part.n for part in parts))


@dataclass(frozen=True, slots=True)
class _Part:
    """A mean difference, and the same with two items added, with the variance of the latter."""

    value: float
    centre: float
    variance: float
    n: int


def _adjusted(items: Matrix, cells: float) -> _Part:
    n, extra = len(items), 2 / max(cells, _denominator(items))
    centre = float(items.sum()) / (n + 2)
    variance = (float((items**2).sum()) + extra) / (n + 2) - centre**2
    return _Part(float(items.mean()), centre, variance / (n + 2), n)


def ratio_interval(above: Matrix, below: Matrix) -> Interval | None:
    """Interval of mean(above) ÷ mean(below), two tables of the same items and formats (Fieller).

    Cells missing in either are left out. Where the mean below may be 0 the interval is unbounded:
    ``low`` and ``high`` are None, and the absolute difference is the number to read. None when
    nothing is left or the mean below is 0. Fieller 1954; the items are the pairs.
    """
    import numpy as np
    from scipy.stats import t

    cells = ~(np.isnan(above) | np.isnan(below))
    if not cells.any():
        return None
    tops, _ = _items(np.where(cells, above, np.nan))
    bottoms, _ = _items(np.where(cells, below, np.nan))
    n, top, bottom = len(tops), float(tops.mean()), float(bottoms.mean())
    if bottom == 0.0:
        return None
    value = top / bottom
    if n < LEAST_ITEMS:
        return Interval(value, None, None, n, f"{n} items are too few, {LEAST_ITEMS} are needed")
    covariance = np.cov(tops, bottoms) / n
    square = float(t.ppf(0.975, n - 1)) ** 2
    a = bottom**2 - square * float(covariance[1, 1])
    b = top * bottom - square * float(covariance[0, 1])
    c = top**2 - square * float(covariance[0, 0])
    if a <= 0:
        return Interval(value, None, None, n, "unbounded: what it is divided by may be 0")
    root = math.sqrt(max(0.0, b**2 - a * c))
    return Interval(value, (b - root) / a, (b + root) / a, n)


def _items(values: Sequence[float] | Matrix) -> tuple[Matrix, float]:
    """One value per item whose mean is the mean over all scored cells, and cells per item.

    Where items have different numbers of scored cells, the values are mean + residual of the
    ratio estimator, so that their variance is that of a mean over clusters.
    """
    import numpy as np

    table = np.asarray(values, dtype=float)
    if table.ndim == 1:
        table = table[:, None]
    scored = ~np.isnan(table)
    table, scored = table[scored.any(1)], scored[scored.any(1)]
    if not len(table):
        raise ValueError("nothing was scored")
    counts = scored.sum(1)
    sums = np.where(scored, table, 0.0).sum(1)
    mean = sums.sum() / counts.sum()
    with np.errstate(invalid="ignore"):  # of infinite values
        return mean + (sums - mean * counts) / counts.mean(), float(counts.mean())


def _denominator(items: Matrix) -> int:
    """The number of cells whose means these values may be: 1 of whole numbers, at most 64."""
    import numpy as np

    return next((k for k in range(1, 64) if np.allclose(items * k, np.round(items * k))), 64)
