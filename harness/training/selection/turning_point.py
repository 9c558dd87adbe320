"""Where a curve over checkpoints stops falling and begins to rise, and whether the rise is real.

A unimodal least-squares fit, and a bootstrap over items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

RESAMPLES = 2000
#: Fraction of the resamples in which the curve must rise on items that did not choose the turning
#: point. Of 900 simulated curves without a rise (flat, or falling and then flat; 8 to 32 items)
#: 1 % to 4 % passed it.
SURE = 0.9


@dataclass(frozen=True, slots=True)
class TurningPoint:
    """The turning point of a curve, as indices of its checkpoints."""

    at: int
    """The last checkpoint before the rise."""
    back: int
    """The earliest one that is not worse than ``at`` by more than the margin."""
    low: int
    """2.5 % quantile of ``at`` over the resamples."""
    high: int
    """97.5 % quantile of ``at`` over the resamples."""
    rise: float
    """Mean size of the rise."""
    share: float
    """Fraction of the resamples with a rise after the turning point."""
    rises: bool
    """Whether ``share`` is large enough."""
    fit: tuple[float, ...]


def find_turning_point(
    values: Matrix, *, margin: float = 1.0, seed: int = 0, resamples: int = RESAMPLES
) -> TurningPoint:
    """Find the turning point of the mean curve of an [items, checkpoints] table; lower is better.

    Items are resampled with replacement. Each resample fits a turning point of its own, and the
    rise after it is measured on the items that were *not* drawn: the lowest of several noisy points
    always looks lower than the others, but not on items that did not help to choose it. The rise is
    the mean over all later checkpoints less the value at the turning point.

    ``back`` goes to earlier checkpoints while they are worse by at most ``margin`` standard errors
    of the paired difference: the one-standard-error rule (Breiman et al. 1984), which prefers a
    little too early.
    """
    import numpy as np

    items, checkpoints = values.shape
    at, fit = unimodal(values.mean(0))
    rng = np.random.default_rng(seed)
    turns, rises = np.empty(resamples, dtype=int), np.zeros(resamples)
    for index in range(resamples):
        drawn = rng.integers(0, items, items)
        turns[index], _ = unimodal(values[drawn].mean(0))
        rest = np.delete(values, drawn, axis=0)
        if len(rest) and turns[index] + 1 < checkpoints:
            later = rest[:, turns[index] + 1 :].mean(1)
            rises[index] = (later - rest[:, turns[index]]).mean()
    low, high = np.quantile(turns, [0.025, 0.975], method="nearest")
    share = float((rises > 0).mean())
    return TurningPoint(
        at,
        _back(values, at, margin),
        int(low),
        int(high),
        float(rises.mean()),
        share,
        share >= SURE and at + 1 < checkpoints,
        tuple(map(float, fit)),
    )


def unimodal(curve: Matrix) -> tuple[int, Matrix]:
    """The least-squares fit that falls and then rises, and the last index of its lowest level.

    Pool-adjacent-violators yields the error of every prefix as it goes (Stout 2008), so trying
    every turning point costs no more than one fit from either side.
    """
    import numpy as np

    length = len(curve)
    left, _ = _rising(-curve)
    right, _ = _rising(-curve[::-1])
    costs = [left[split] + right[length - split] for split in range(length + 1)]
    split = int(np.argmin(costs))
    fit = np.concatenate([-_rising(-curve[:split])[1], -_rising(-curve[split:][::-1])[1][::-1]])
    return int(np.flatnonzero(fit == fit.min())[-1]), fit


def _rising(curve: Matrix) -> tuple[list[float], Matrix]:
    """The isotonic fit, and the squared error of the fit of each prefix (0, 1, … all values)."""
    import numpy as np

    blocks: list[tuple[float, float, int]] = []  # sum, sum of squares, size
    errors = [0.0]
    costs: list[float] = []  # of all blocks up to and with this one
    for value in curve.tolist():
        total, squares, size = value, value * value, 1
        while blocks and blocks[-1][0] / blocks[-1][2] >= total / size:
            other = blocks.pop()
            costs.pop()
            total, squares, size = total + other[0], squares + other[1], size + other[2]
        blocks.append((total, squares, size))
        costs.append((costs[-1] if costs else 0.0) + max(0.0, squares - total * total / size))
        errors.append(costs[-1])
    return errors, np.concatenate(
        [np.full(size, total / size) for total, _, size in blocks]
    ) if blocks else np.empty(0)


def _back(values: Matrix, at: int, margin: float) -> int:
    import numpy as np

    back = at
    while back > 0:
        worse = values[:, back - 1] - values[:, at]
        error = worse.std(ddof=1) / np.sqrt(len(worse)) if len(worse) > 1 else 0.0
        if worse.mean() > margin * error:
            break
        back -= 1
    return back
