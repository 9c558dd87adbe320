"""Is there any effect of the format? The spread beside its permutation null, and Cochran's Q."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.stats.intervals import Matrix

DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Spread:
    """Highest minus lowest mean of a format, beside what the same answers give when formats are shuffled within items."""

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
    """Spread over formats of an items × formats table and its permutation null (95 % range).

    The spread of noise alone is far from zero, so it is never shown without the null. Items with a
    missing value are left out.
    """
    import numpy as np

    whole = _complete(table)
    means = whole.mean(0)
    rng = np.random.default_rng(seed)
    null = np.empty(draws)
    for draw in range(draws):
        shuffled = rng.permuted(whole, axis=1).mean(0)
        null[draw] = shuffled.max() - shuffled.min()
    seen = float(means.max() - means.min())
    low, high = np.quantile(null, [0.025, 0.975])
    p = (1 + int((null >= seen - 1e-12).sum())) / (draws + 1)
    return Spread(
        float(means.max()),
        float(means.min()),
        float(means.mean()),
        seen,
        float(low),
        float(high),
        p,
        whole.shape[1],
        whole.shape[0],
    )


def cochran_q(table: Matrix) -> float:
    """p-value of "all formats are right equally often" for an items × formats table of 0 and 1 (Cochran 1950).

    Exact enough where items × formats is at least 24 among the items that are not alike in all formats; with fewer the
    permutation of ``spread`` is the better test. Items with a missing value are left out; items alike everywhere say
    nothing, and a table of only such gives 1. Raises ValueError for other values.
    """
    import numpy as np
    from scipy.stats import chi2

    whole = _complete(table)
    if not np.isin(whole, (0.0, 1.0)).all():
        raise ValueError("Cochran's Q is for 0 and 1")
    formats, by_format, by_item = whole.shape[1], whole.sum(0), whole.sum(1)
    within = float((by_item * (formats - by_item)).sum())
    if within == 0:
        return 1.0
    q = (formats - 1) * formats * float(((by_format - by_format.mean()) ** 2).sum()) / within
    return float(chi2.sf(q, formats - 1))


def _complete(table: Matrix) -> Matrix:
    import numpy as np

    whole = table[~np.isnan(table).any(1)]
    if whole.size == 0:
        raise ValueError("no item was scored in every format")
    return whole
