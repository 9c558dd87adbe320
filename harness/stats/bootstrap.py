"""Bootstrap intervals: over items and formats at once, and over items alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.stats.intervals import Interval

if TYPE_CHECKING:
    import numpy as np

    from harness.stats.intervals import Matrix

DRAWS = 2000


def _first_group(means: Matrix) -> Matrix:
    return means[:, 0]


def two_way_bootstrap(
    table: Matrix,
    combine: Callable[[Matrix], Matrix] = _first_group,
    *,
    groups: Sequence[int] = (),
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval:
    """Interval of a statistic of an items × formats table, with items and formats both resampled.

    ``table`` is [items, formats]; NaN marks what was not scored. ``groups`` holds the number of
    each format's group, and formats are resampled inside their group. ``combine`` takes the group
    means, [draws, groups], to the statistic, [draws], which must be linear in them. Without either
    the statistic is the mean. This is the interval for statements about formats never seen: more
    items do not remove the variance between formats.

    Resampling both at once counts the noise of single cells three times (Owen 2007, the pigeonhole
    bootstrap), and few formats make it too narrow. So the spread of the resamples is set to V_items
    + V_formats − V_cells, as in two-way clustering (Cameron, Gelbach and Miller 2011), and the
    quantiles are those of Student's t at Satterthwaite's degrees of freedom (Hesterberg 2015).
    Coverage is 93 to 97 % from 24 items × 6 formats up (tests/stats/test_coverage.py).
    """
    import numpy as np

    size, width = table.shape
    group_of = np.asarray(groups if len(groups) else [0] * width)
    rng = np.random.default_rng(seed)
    items = _counts(rng, size, draws)
    columns = [np.flatnonzero(group_of == group) for group in np.unique(group_of)]
    formats = np.zeros((draws, width), dtype=np.float32)
    for places in columns:
        formats[:, places] = _counts(rng, len(places), draws)
    same_items, same_formats = np.ones((1, size), np.float32), np.ones((1, width), np.float32)

    def statistic(by_item: Matrix, by_format: Matrix) -> Matrix:
        return combine(_means(table, columns, by_item, by_format))

    value = float(statistic(same_items, same_formats)[0])
    both = statistic(items, formats)
    parts = [(float(np.nanvar(statistic(items, same_formats))), size)]
    for places in columns:
        alone = np.ones_like(formats)
        alone[:, places] = formats[:, places]
        parts.append((float(np.nanvar(statistic(same_items, alone))), len(places)))
    low, high = _quantiles(both, value, parts)
    return Interval(value, low, high, size)


def two_way_ratio(
    above: Matrix, below: Matrix, *, seed: int = 0, draws: int = DRAWS
) -> Interval | None:
    """Interval of mean(above) ÷ mean(below), with items and formats both resampled.

    Both are items × formats tables of the same cells. The ratio r is linearised (Särndal, Swensson
    and Wretman 1992, §5.6): it varies as the mean of (above − r·below) ÷ mean(below). Quantiles of
    resampled ratios would be useless, since a denominator near 0 gives a ratio of any size. Cells
    missing in either table are left out; None when nothing is left or ``below`` is 0 on average.
    """
    import numpy as np

    cells = ~(np.isnan(above) | np.isnan(below))
    base = float(below[cells].mean()) if cells.any() else 0.0
    if base == 0.0:
        return None
    ratio = float(above[cells].mean()) / base
    spread = two_way_bootstrap(
        np.where(cells, (above - ratio * below) / base, np.nan), seed=seed, draws=draws
    )
    return Interval(ratio, ratio + spread.low, ratio + spread.high, len(above))


def _counts(rng: np.random.Generator, n: int, draws: int) -> Matrix:
    """How often each of n is drawn, [draws, n]; float32 holds the counts at half the work."""
    import numpy as np

    places = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float32)


def _means(table: Matrix, columns: Sequence[Matrix], items: Matrix, formats: Matrix) -> Matrix:
    """Weighted means over the scored cells of each group, [draws, groups]."""
    import numpy as np

    means = []
    for places in columns:
        values = table[:, places]
        scored = ~np.isnan(values)
        weights = formats[:, places]
        sums = ((items @ np.where(scored, values, 0.0).astype(np.float32)) * weights).sum(1)
        cells = ((items @ scored.astype(np.float32)) * weights).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(sums / cells)
    return np.stack(means, 1).astype(np.float64)


def _quantiles(
    both: Matrix, value: float, parts: Sequence[tuple[float, int]]
) -> tuple[float, float]:
    """The interval from the resamples of everything at once.

    ``parts`` holds, for each factor, the variance when it alone is resampled, and its size.
    """
    import numpy as np
    from scipy.stats import norm, t

    both = both[np.isfinite(both)]
    observed = float(both.var())
    if observed == 0.0:
        return value, value
    unbiased = [
        (variance * size / (size - 1) if size > 1 else 0.0, size) for variance, size in parts
    ]
    total = sum(variance for variance, _ in unbiased)
    target = max(
        total - max(0.0, observed - sum(variance for variance, _ in parts)),
        max(variance for variance, _ in unbiased) / 2,
    )
    freedom = sum(variance**2 / (size - 1) for variance, size in unbiased if size > 1)
    degrees = max(1.0, target**2 / freedom) if freedom else 1.0
    scale = (target / observed) ** 0.5
    tail = float(norm.cdf(t.ppf(0.025, degrees)))
    centre = float(both.mean())
    low, high = np.quantile(value + scale * (both - centre), [tail, 1 - tail])
    return float(low), float(high)


def paired_bootstrap(
    differences: Sequence[float], *, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Mean of per-item differences with its bootstrap interval."""
    import numpy as np

    values = np.asarray(differences, dtype=float)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), len(values))
