"""Best and worst format without the winner's curse: chosen on one half of the items, reported on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stats.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from harness.stats.intervals import Matrix


@dataclass(frozen=True, slots=True)
class Chosen:
    """Columns of the best and the worst format by one half of the items, and their means on the other half."""

    best: int
    worst: int
    best_chosen: float
    worst_chosen: float
    best_reported: Interval
    worst_reported: Interval


def best_and_worst(table: Matrix, *, seed: int = 0) -> Chosen | None:
    """Choose on a random half of the items and report on the other; None where a half has no item that was scored in every format.

    The best of K noisy means is better than the format is: the mean by which it was chosen is shown beside the other half's.
    """
    import numpy as np

    whole = table[~np.isnan(table).any(1)]
    if len(whole) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(whole))
    choosing, reporting = whole[order[: len(whole) // 2]].mean(0), whole[order[len(whole) // 2 :]]
    best, worst = int(choosing.argmax()), int(choosing.argmin())
    found = [mean_interval(reporting[:, column].tolist()) for column in (best, worst)]
    return Chosen(best, worst, float(choosing[best]), float(choosing[worst]), *found)
