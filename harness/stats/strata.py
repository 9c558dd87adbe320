"""Trained rows against controls: differences within strata, and how well a value separates the two.

Rows and controls are drawn from one pool, so on a model that saw neither they differ by chance
alone. Kind and length explain much of how likely an answer is; strata take that part away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stats.intervals import Interval, wilson

if TYPE_CHECKING:
    from harness.stats.intervals import Matrix

#: Rows and controls that each stratum needs. With fewer its two variances say little.
LEAST = 5
#: Items beyond the means of all strata that each covariate needs. With fewer its slope is noise.
FOR_A_SLOPE = 20
#: The share of controls that may pass for trained rows where the rate of found rows is read.
FALSE_POSITIVES = 0.01


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of the trained rows, mean of the controls, and the 95 % interval of the difference.

    ``null`` is the mean of the controls weighted to the strata of the trained rows. ``low`` and
    ``high`` are None with fewer than two rows or controls, which have no variance.
    """

    train: float
    null: float
    low: float | None
    high: float | None
    n_train: int
    n_null: int

    @property
    def value(self) -> float:
        """The difference of the two means."""
        return self.train - self.null


def strata(kinds: Sequence[str], lengths: Sequence[float], trained: Sequence[bool]) -> list[int]:
    """A number for each item: its stratum by kind and length.

    Each kind is halved at its median length as long as both halves keep LEAST rows and LEAST
    controls. Kinds with fewer are taken together, with the smallest of the others where even those
    are too few.
    """
    of_kind: dict[str, list[int]] = {}
    for at, kind in enumerate(kinds):
        of_kind.setdefault(kind, []).append(at)
    groups = sorted((g for g in of_kind.values() if _enough(g, trained)), key=len, reverse=True)
    rest = [at for group in of_kind.values() if not _enough(group, trained) for at in group]
    while rest and groups and not _enough(rest, trained):
        rest += groups.pop()
    labels = [0] * len(kinds)
    parts = [part for group in (*groups, rest) for part in _halved(group, lengths, trained)]
    for label, part in enumerate(parts):
        for at in part:
            labels[at] = label
    return labels


def _enough(group: Sequence[int], trained: Sequence[bool]) -> bool:
    rows = sum(trained[at] for at in group)
    return rows >= LEAST and len(group) - rows >= LEAST


def _halved(
    group: Sequence[int], lengths: Sequence[float], trained: Sequence[bool]
) -> list[Sequence[int]]:
    """The group, halved at its median length again and again."""
    if not group:
        return []
    median = sorted(lengths[at] for at in group)[len(group) // 2]
    halves = [
        [at for at in group if (lengths[at] < median) == shorter] for shorter in (True, False)
    ]
    if not all(_enough(half, trained) for half in halves):
        return [group]
    return [part for half in halves for part in _halved(half, lengths, trained)]


def adjusted(
    values: Sequence[float],
    covariates: Sequence[Sequence[float]],
    labels: Sequence[int],
    trained: Sequence[bool],
) -> list[float]:
    """The values less what covariates explain of them, for `stratified_difference`.

    ``covariates`` has a row of the same length for each value, of facts that training cannot
    change, such as how much of an answer its question holds. Slopes are of least squares within
    strata and sides (analysis of covariance), so a gain of the trained rows is never taken for the
    effect of a covariate. Rows and controls are a random split, so the adjustment makes the
    interval narrower and moves nothing on the average (Lin 2013, doi 10.1214/12-AOAS583). The
    mean of the trained rows stays what it is. Too few values (`FOR_A_SLOPE`) are returned as they
    are.
    """
    import numpy as np

    y, x = np.asarray(values, float), np.asarray(covariates, float)
    ours = np.asarray(trained, bool)
    cells = 2 * np.asarray(labels, int) + ours
    free = len(y) - len(np.unique(cells))
    if not free or free < FOR_A_SLOPE * x.shape[1]:
        return list(values)
    within_y, within_x = y.copy(), x.copy()
    for cell in np.unique(cells):
        same = cells == cell
        within_y[same] -= y[same].mean()
        within_x[same] -= x[same].mean(axis=0)
    slopes = np.linalg.lstsq(within_x, within_y, rcond=None)[0]
    return [float(value) for value in y - (x - x[ours].mean(axis=0)) @ slopes]


def stratified_difference(
    values: Sequence[float],
    labels: Sequence[int],
    trained: Sequence[bool],
    *,
    share: bool = False,
) -> Difference | None:
    """Mean of the trained rows minus that of the controls, which are weighted to the same strata.

    Each side has the variance of its strata, and Student's t has Satterthwaite's degrees of
    freedom. With ``share`` the values lie between 0 and 1: where all are 0 or 1, or one side is
    constant, the interval is made of both sides' Wilson intervals (Newcombe 1998, method 10), so
    that no count of 0 has width 0. A stratum without controls is left out. None where nothing is
    left to compare.
    """
    import numpy as np

    y, of, ours = np.asarray(values, float), np.asarray(labels), np.asarray(trained, bool)
    known = [label for label in np.unique(of) if {False, True} <= set(ours[of == label].tolist())]
    kept = np.isin(of, known)
    y, of, ours = y[kept], of[kept], ours[kept]
    if not len(y):
        return None
    weights = np.where(ours, 1 / ours.sum(), 0.0)
    parts: list[tuple[float, int]] = []
    for label in known:
        share_of_rows = float((ours & (of == label)).sum() / ours.sum())
        for side in (ours & (of == label), ~ours & (of == label)):
            n = int(side.sum())
            weights[side] = share_of_rows / n
            parts.append((share_of_rows**2 * _variance(y[side]) / n, n))
    train, null = (float((weights * y)[side].sum()) for side in (ours, ~ours))
    low = high = None
    if min(ours.sum(), (~ours).sum()) > 1:
        constant = any(np.ptp(y[side]) == 0 for side in (ours, ~ours))
        if share and (constant or np.isin(y, (0.0, 1.0)).all()):
            sizes = [1 / float((weights[side] ** 2).sum()) for side in (ours, ~ours)]
            low, high = _newcombe(train, null, *sizes)
        else:
            half = _half_width(parts)
            low, high = train - null - half, train - null + half
    return Difference(train, null, low, high, int(ours.sum()), int((~ours).sum()))


def _variance(values: Matrix) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _half_width(parts: Sequence[tuple[float, int]]) -> float:
    """Half the interval of a sum of independent means, each with its variance and size."""
    from scipy.stats import t

    total = sum(variance for variance, _ in parts)
    spent = sum(variance**2 / (n - 1) for variance, n in parts if n > 1)
    if not spent:
        return 0.0
    return float(t.ppf(0.975, total**2 / spent)) * math.sqrt(total)


def _newcombe(first: float, second: float, n_first: float, n_second: float) -> tuple[float, float]:
    """Interval of a difference of two independent rates, from the Wilson interval of each."""
    first, second = (min(1.0, max(0.0, rate)) for rate in (first, second))  # rounding of weights
    (l1, u1), (l2, u2) = wilson(first, n_first), wilson(second, n_second)
    difference = first - second
    return (
        difference - ((first - l1) ** 2 + (u2 - second) ** 2) ** 0.5,
        difference + ((u1 - first) ** 2 + (second - l2) ** 2) ** 0.5,
    )


def auc(train: Sequence[float], controls: Sequence[float]) -> Interval:
    """Probability that a trained row has a higher value than a control; a tie counts half.

    The interval solves (θ̂ − θ)² = z² V(θ) for the variance of Hanley and McNeil (1982) with
    Newcombe's (2006) mean of the two sizes, so it has a width even at 1. Raises ValueError when a
    side is empty.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm, rankdata

    m, n = len(train), len(controls)
    if not m or not n:
        raise ValueError("an area under the curve needs rows and controls")
    ranks = rankdata([*train, *controls])[:m]
    value = float((ranks.sum() - m * (m + 1) / 2) / (m * n))
    z = float(norm.ppf(0.975))

    def excess(theta: float) -> float:
        size = (m + n) / 2 - 1
        inner = 1 + size * (1 - theta) / (2 - theta) + size * theta / (1 + theta)
        return float((value - theta) ** 2 - z**2 * theta * (1 - theta) * inner / (m * n))

    tiny = 1e-9  # at the value itself the equation may hold too
    low = 0.0 if value <= tiny else float(brentq(excess, 0.0, value - tiny))
    high = 1.0 if value >= 1 - tiny else float(brentq(excess, value + tiny, 1.0))
    return Interval(value, low, high, m)


def found_rate(train: Sequence[float], controls: Sequence[float]) -> Interval | None:
    """Share of trained rows found at 1 % false positives, with its Clopper-Pearson interval.

    A row counts as found above the k-th highest control, with the largest k for which k of the
    n + 1 exchangeable values are at most FALSE_POSITIVES: an untrained row passes in at most 1 %.
    None with fewer than 99 controls, which cannot show so small a rate.
    """
    from scipy.stats import beta

    k = int(FALSE_POSITIVES * (len(controls) + 1) + 1e-9)
    if not train or k < 1:
        return None
    threshold = sorted(controls, reverse=True)[k - 1]
    n, found = len(train), sum(value > threshold for value in train)
    low = float(beta.ppf(0.025, found, n - found + 1)) if found else 0.0
    high = float(beta.ppf(0.975, found + 1, n - found)) if found < n else 1.0
    return Interval(found / n, low, high, n)
