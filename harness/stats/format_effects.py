"""Whether formats differ: their spread beside a permutation null, Cochran's Q, best and worst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stats.intervals import Interval, rate_interval

if TYPE_CHECKING:
    from harness.stats.intervals import Matrix

DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Spread:
    """Highest minus lowest mean over formats, and its 95 % range when formats are shuffled."""

    max: float
    min: float
    mean: float
    spread: float
    null_low: float
    null_high: float
    p: float
    formats: int
    n: int


def spread(table: Matrix, *, seed: int = 0, draws: int = DRAWS) -> Spread:
    """Spread over formats of an items × formats table, with its permutation null (95 % range).

    Under the null the answers to an item are shuffled among the formats. The spread of noise alone
    is far from zero, so it is never shown without the null. Items with a missing value are left
    out; raises ValueError when none is whole.
    """
    import numpy as np

    whole = _whole_items(table)
    means = whole.mean(0)
    rng = np.random.default_rng(seed)
    null = np.empty(draws)
    for draw in range(draws):
        shuffled = rng.permuted(whole, axis=1).mean(0)
        null[draw] = shuffled.max() - shuffled.min()
    observed = float(means.max() - means.min())
    low, high = np.quantile(null, [0.025, 0.975])
    p = (1 + int((null >= observed - 1e-12).sum())) / (draws + 1)
    return Spread(
        float(means.max()),
        float(means.min()),
        float(means.mean()),
        observed,
        float(low),
        float(high),
        p,
        whole.shape[1],
        whole.shape[0],
    )


def cochran_q(table: Matrix) -> float:
    """p-value of "all formats are right equally often" (Cochran 1950).

    ``table`` is items × formats of 0 and 1. Items that are alike in all formats carry no
    information; a table of only such items gives 1. The test is exact enough when the other items
    × formats are at least 24 cells; with fewer the permutation of ``spread`` is the better test.
    Items with a missing value are left out. Raises ValueError for other values, and when no item
    is whole.
    """
    import numpy as np
    from scipy.stats import chi2

    whole = _whole_items(table)
    if not np.isin(whole, (0.0, 1.0)).all():
        raise ValueError("Cochran's Q is for 0 and 1")
    formats, by_format, by_item = whole.shape[1], whole.sum(0), whole.sum(1)
    within = float((by_item * (formats - by_item)).sum())
    if within == 0:
        return 1.0
    q = (formats - 1) * formats * float(((by_format - by_format.mean()) ** 2).sum()) / within
    return float(chi2.sf(q, formats - 1))


@dataclass(frozen=True, slots=True)
class BestAndWorst:
    """Columns of the best and the worst format, and their means on the other half of the items."""

    best: int
    worst: int
    best_mean: Interval
    worst_mean: Interval


def best_and_worst(table: Matrix, *, seed: int = 0) -> BestAndWorst | None:
    """Choose the best and worst format on a random half of the items, and measure on the other.

    The best of K noisy means is higher than that format's true mean (the winner's curse), so the
    half that chose is not used again. None where a half has no item scored in every format.
    """
    import numpy as np

    whole = table[~np.isnan(table).any(1)]
    if len(whole) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(whole))
    half = len(whole) // 2
    choosing, measuring = whole[order[:half]].mean(0), whole[order[half:]]
    best, worst = int(choosing.argmax()), int(choosing.argmin())
    means = [rate_interval(measuring[:, column]) for column in (best, worst)]
    return BestAndWorst(best, worst, *means)


def least_share(formats: int) -> float:
    """The share of formats that are no worse than the worst of those measured, at least, in 95 %.

    It holds for formats drawn as these were, whatever their means look like: the worst of K drawn
    at random is below a share .05^(1/K) of all with probability 5 % (Wilks 1941). An interval for
    the mean over formats never seen is not given: of six formats none may be of the broken third,
    and nothing in the data would show it (docs/decisions/023).
    """
    return float(0.05 ** (1 / formats))


def _whole_items(table: Matrix) -> Matrix:
    """The items that were scored in every format. Raises ValueError when there is none."""
    import numpy as np

    whole: Matrix = table[~np.isnan(table).any(1)]
    if whole.size == 0:
        raise ValueError("no item was scored in every format")
    return whole
