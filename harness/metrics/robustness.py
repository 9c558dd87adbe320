"""Robustness over formats: how much the choice of a format changes a model's results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True, slots=True)
class Across:
    """The means of one measure in each format, summed up (Mizrahi et al. 2024, arXiv 2401.00595).

    ``sat`` is 1 − (max − avg): how near the typical format is to the best one; ``cps`` is sat ·
    max.
    """

    avg: float
    max: float
    min: float
    spread: float
    sat: float
    cps: float


def across(means: Sequence[float]) -> Across:
    """Sum up the means of the formats. Raises ValueError for none."""
    if not means:
        raise ValueError("no format")
    avg, top, low = math.fsum(means) / len(means), max(means), min(means)
    sat = 1 - (top - avg)
    return Across(avg, top, low, top - low, sat, sat * top)


def performance_sensitivity(values: Sequence[Sequence[float]]) -> float | None:
    """PSS: mean over items of the mean absolute difference between any two formats (ProSA, Zhuo et
    al. 2024, arXiv 2410.12405).

    ``values`` holds for each item its values in the formats where it was scored; items with fewer
    than two say nothing, and without any other the result is None.
    """
    found = [
        math.fsum(abs(a - b) for a, b in combinations(item, 2)) / math.comb(len(item), 2)
        for item in values
        if len(item) > 1
    ]
    return math.fsum(found) / len(found) if found else None


def consistency(answers: Sequence[Sequence[object]]) -> float | None:
    """Mean over items of the share of pairs of formats that give the same answer, right or wrong
    (SCORE, Nalbandyan et al. 2025, arXiv 2503.00137).
    """
    found = [
        sum(a == b for a, b in combinations(item, 2)) / math.comb(len(item), 2)
        for item in answers
        if len(item) > 1
    ]
    return math.fsum(found) / len(found) if found else None


def sensitivity(probabilities: Sequence[Sequence[Sequence[float]]]) -> float | None:
    """Mean over items of H(E_f[p(y ∣ x, f)]) ∕ ln C, from 0 to 1.

    Errica et al. 2025, arXiv 2406.12334.

    ``probabilities`` is items × formats × options. 0: sure, and of the same option in all formats;
    1: formats together spread over all options evenly. An unsure model counts as sensitive, so read
    it beside ``consistency``. Raises ValueError where an item's formats have different numbers of
    options.
    """
    found = []
    for item in probabilities:
        if not item or len(item[0]) < 2:
            continue
        mean = [math.fsum(column) / len(item) for column in zip(*item, strict=True)]
        found.append(-math.fsum(p * math.log(p) for p in mean if p > 0) / math.log(len(mean)))
    return math.fsum(found) / len(found) if found else None


def top(means: Sequence[float], threshold: float) -> float | None:
    """The share of formats at or above a threshold (PAFT, Wei et al. 2025, arXiv 2502.12859)."""
    return sum(mean >= threshold for mean in means) / len(means) if means else None
