"""Which cells of a grid to compute when not all can be: a random sample that is balanced both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def balanced_sample(
    items: int, formats: int, cells: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """``cells`` different (item, format): each item and each format occurs as often as any other, or once more or less.

    Walking both at once, with a shift whenever the walk would come back to its start, is balanced at each step; the cells
    are then mixed by swaps that keep the balance. Raises ValueError for more cells than there are.
    """
    if not 0 <= cells <= items * formats:
        raise ValueError(f"{cells} cells of {items} × {formats}")
    from math import lcm

    turn = lcm(items, formats)
    order, columns = rng.permutation(items), rng.permutation(formats)
    chosen = [
        (int(order[(at + at // turn) % items]), int(columns[at % formats])) for at in range(cells)
    ]
    taken = set(chosen)
    for first, second in rng.integers(0, max(1, cells), (10 * cells, 2)).tolist():
        (item, format), (other, column) = chosen[first], chosen[second]
        if (item, column) not in taken and (other, format) not in taken:
            taken -= {chosen[first], chosen[second]}
            chosen[first], chosen[second] = (item, column), (other, format)
            taken |= {chosen[first], chosen[second]}
    return chosen
