"""95 % intervals of means: of one value per item, of a rate, and of an items × formats table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: An array of numbers. numpy is imported where it is needed, so that `harness --help` is quick.
Matrix: TypeAlias = "NDArray[Any]"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval and the number of items behind it."""

    value: float
    low: float
    high: float
    n: int


_Z = 1.9599639845400545
"""The 97.5 % quantile of the normal distribution."""


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of one value per item, with Wilson's interval when all are 0 or 1, else Student's."""
    if all(value in (0.0, 1.0) for value in values):
        return wilson(round(math.fsum(values)), len(values))
    return student_interval(values)


def wilson(successes: int, n: int) -> Interval:
    """Wilson's score interval of a rate (Wilson 1927)."""
    rate, width = successes / n, 1 + _Z**2 / n
    centre = (rate + _Z**2 / (2 * n)) / width
    half = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / width
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half), n)


def student_interval(values: Sequence[float]) -> Interval:
    """Mean with Student's interval. With one value the interval is that value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, mean, mean, n)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def clustered_interval(table: Matrix) -> Interval:
    """Mean over all cells of an items × formats table, for these formats, with items as clusters.

    SE = √(C∕(C−1) Σ_c (Σ_{i∈c} (y_i − ȳ))²) ∕ N over C items and N scored cells, with Student's t
    at C − 1 degrees of freedom. A plain interval over N cells would count K answers to one item as
    K items (Miller 2024, arXiv 2411.00640). NaN means not scored. Raises ValueError when nothing
    was scored.
    """
    import numpy as np
    from scipy.stats import t

    scored = ~np.isnan(table)
    rows = scored.any(1)
    table, scored = table[rows], scored[rows]
    clusters, cells = len(table), int(scored.sum())
    if not cells:
        raise ValueError("nothing was scored")
    mean = float(table[scored].mean())
    if clusters < 2:
        return Interval(mean, mean, mean, clusters)
    sums = np.where(scored, table - mean, 0.0).sum(1)
    error = math.sqrt(clusters / (clusters - 1) * float((sums**2).sum())) / cells
    half = float(t.ppf(0.975, clusters - 1)) * error
    return Interval(mean, mean - half, mean + half, clusters)
