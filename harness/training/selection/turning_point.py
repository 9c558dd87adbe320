"""Where a curve over checkpoints stops falling and begins to rise: a unimodal least-squares fit, and whether the rise is more than noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

DRAWS = 2000
#: Share of the draws in which the curve must rise on items that did not choose the turn. Of 900 simulated curves without a rise
#: (flat, or falling and then flat; 8 to 32 items) 1 % to 4 % passed it.
SURE = 0.9


@dataclass(frozen=True, slots=True)
class TurningPoint:
    """``at`` is the index of the last checkpoint before the rise, ``back`` the one a margin earlier, ``low`` and ``high`` where 95 % of the draws put it.

    ``share`` is the share of draws with a rise after the turn, ``rises`` whether that is enough, ``rise`` its mean size.
    """

    at: int
    back: int
    low: int
    high: int
    rise: float
    share: float
    rises: bool
    fit: tuple[float, ...]


def find_turning_point(values: Matrix, *, margin: float = 1.0, seed: int = 0, draws: int = DRAWS) -> TurningPoint:
    """The turn of the mean curve of an [items, checkpoints] table; lower is better.

    Items are drawn with replacement; each draw fits its own turn, and the rise after it is read on the items that
    were *not* drawn: the lowest of several noisy points always looks as if the others were higher, but not to
    items that had no say in choosing it. The rise is the mean over all later checkpoints less the turn.

    ``back`` goes from the turn to earlier checkpoints while they are worse by at most ``margin`` standard errors of
    the paired difference: the rule of one standard error (Breiman et al. 1984), which prefers a little too early.
    """
    import numpy as np

    items, checkpoints = values.shape
    at, fit = unimodal(values.mean(0))
    rng = np.random.default_rng(seed)
    turns, rises = np.empty(draws, dtype=int), np.zeros(draws)
    for draw in range(draws):
        drawn = rng.integers(0, items, items)
        turns[draw], _ = unimodal(values[drawn].mean(0))
        rest = np.delete(values, drawn, axis=0)
        if len(rest) and turns[draw] + 1 < checkpoints:
            rises[draw] = (rest[:, turns[draw] + 1 :].mean(1) - rest[:, turns[draw]]).mean()
    low, high = np.quantile(turns, [0.025, 0.975], method="nearest")
    share = float((rises > 0).mean())
    rises_here = share >= SURE and at + 1 < checkpoints
    return TurningPoint(
        at,
        _back(values, at, margin),
        int(low),
        int(high),
        float(rises.mean()),
        share,
        rises_here,
        tuple(map(float, fit)),
    )


def unimodal(curve: Matrix) -> tuple[int, Matrix]:
    """The least-squares fit that falls and then rises, and the last index of its lowest level.

    Pool-adjacent-violators keeps the error of every prefix as it goes (Stout 2008), so trying every place for the
    turn costs no more than one fit from either side.
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
