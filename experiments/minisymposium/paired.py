"""Differences between two models on the same cases, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.evaluation.results import Evaluation, table

if TYPE_CHECKING:
    from harness.stats import Interval


def by_case(
    evaluation: Evaluation, metric: str, *, kind: str = "", formats: Sequence[str] = ()
) -> dict[str, float]:
    """Case → mean of a measure over formats (all of the evaluation unless some are named), of cases whose id begins with ``kind``."""
    values = table(evaluation.scores, metric)
    chosen = [values[format] for format in formats or values if format in values]
    ids = dict.fromkeys(id for found in chosen for id in found if id.startswith(kind))
    return {id: fmean(found[id] for found in chosen if id in found) for id in ids}


def difference(
    before: Mapping[str, float], after: Mapping[str, float], seed: int = 0
) -> dict[str, Any] | None:
    """Mean of after − before over the cases of both, with a 95 % bootstrap interval over cases. None without a common case."""
    from harness.stats.bootstrap import paired_bootstrap

    common = [id for id in before if id in after]
    if not common:
        return None
    return as_dict(paired_bootstrap([after[id] - before[id] for id in common], seed=seed))


def as_dict(interval: Interval) -> dict[str, Any]:
    """An interval as JSON has it."""
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def mean_of(values: Mapping[str, float]) -> float | None:
    """The mean, None of nothing."""
    return fmean(values.values()) if values else None
