"""A random sample of the cells of an items × formats grid that is balanced both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def balanced_sample(
    items: int, formats: int, cells: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """``cells`` different (item, format) pairs, chosen at random.

    Each item, and each format, occurs as often as any other or once more. The sample walks along
    items and formats at once, shifted by one whenever it would come back to its start, so it is
    balanced at each step; then swaps that keep the balance mix the pairs. Raises ValueError for
    more cells than there are.
    """
    if not 0 <= cells <= items * formats:
        raise ValueError(f"{cells} cells of {items} × {formats}")
    from math import lcm

    period = lcm(items, formats)
    rows, columns = rng.permutation(items), rng.permutation(formats)
    chosen = [
        (int(rows[(at + at // period) % items]), int(columns[at % formats])) for at in range(cells)
    ]
    taken = set(chosen)
    for first, second in rng.integers(0, max(1, cells), (10 * cells, 2)).tolist():
        (row, column), (other_row, other_column) = chosen[first], chosen[second]
        if (row, other_column) not in taken and (other_row, column) not in taken:
            taken -= {chosen[first], chosen[second]}
            chosen[first], chosen[second] = (row, other_column), (other_row, column)
            taken |= {chosen[first], chosen[second]}
    return chosen
