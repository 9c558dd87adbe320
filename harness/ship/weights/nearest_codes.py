"""Are quantised numbers the nearest codes to what was given?

A quantiser chooses the scales of a block as it likes, but then rounds to the nearest code. So a
number that is given is at most half a step from what is stored, unless the code is the first or the
last. That also holds where the base was quantised itself: then rounding takes a small change away,
which the regression of harness.ship.weights.scale would take for a missing adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: Types with few evenly spaced codes, and how many numbers share a scale: two of a block are then
#: nearly always one step apart.
_BLOCKS = {
    **dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K"), 32),
    **dict.fromkeys(("Q2_K", "Q3_K", "Q6_K"), 16),
}
#: Q8_0 has 255 codes, of which no two in a block need be adjacent. But the largest of the 32
#: numbers always has the code 127 or −127, from which the step follows.
_Q8_BLOCK, _Q8_LARGEST = 32, 127
#: A scale is rounded to half precision after the codes were chosen: so much of a number.
_HALF_PRECISION = 2.0**-11
#: This fraction may be farther away: a scale is stored in half precision, and a step is estimated.
MOST_FAR = 0.002
#: Half a step, and room for the rounding of scales.
_HALF = 0.5 * 1.02


def fraction_far(stored: np.ndarray, given: np.ndarray, kind: str) -> float | None:
    """The fraction of numbers that have a nearer code; None for a type where it is not known.

    Both are [rows, columns] in float32.
    """
    import numpy as np

    block = _Q8_BLOCK if kind == "Q8_0" else _BLOCKS.get(kind)
    if block is None or stored.size % block:
        return None
    codes, wanted = stored.reshape(-1, block), given.reshape(-1, block)
    largest = np.abs(codes).max(axis=1, keepdims=True)
    if kind == "Q8_0":
        step = largest / _Q8_LARGEST
        far = np.abs(codes - wanted) > 0.5 * step + _HALF_PRECISION * np.abs(codes)
        return float(far.mean())
    gaps = np.diff(np.sort(codes, axis=1), axis=1)
    step = np.where(gaps > 1e-5 * largest, gaps, np.inf).min(axis=1, keepdims=True)
    inner = (codes > codes.min(axis=1, keepdims=True)) & (codes < codes.max(axis=1, keepdims=True))
    far = inner & (np.abs(codes - wanted) > _HALF * step)
    return float(far.sum() / max(1, inner.sum()))


def holds(stored: np.ndarray, given: np.ndarray, kind: str) -> bool:
    """Whether the codes are those of the numbers given. False where it is not known."""
    far = fraction_far(stored, given, kind)
    return far is not None and far <= MOST_FAR
