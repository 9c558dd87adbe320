"""Differences between two models on the same cases, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.evaluation.results import Evaluation, scores_by_format

if TYPE_CHECKING:
    from harness.stats import Interval


def by_case(
    evaluation: Evaluation, metric: str, *, kind: str = "", formats: Sequence[str] = ()
) -> dict[str, float]:
    """Case → mean of a metric over formats, of cases whose id begins with ``kind``.

    Without ``formats``, over all of the evaluation.
    """
    values = scores_by_format(evaluation.scores, metric)
    chosen = [values[format_id] for format_id in formats or values if format_id in values]
    cases = dict.fromkeys(case for found in chosen for case in found if case.startswith(kind))
    return {case: fmean(found[case] for found in chosen if case in found) for case in cases}


def difference(
    before: Mapping[str, float], after: Mapping[str, float], seed: int = 0
) -> dict[str, Any] | None:
    """Mean of after − before over the common cases, with a 95 % bootstrap interval, or None."""
    from harness.stats.bootstrap import paired_bootstrap

    common = [case for case in before if case in after]
    if not common:
        return None
    return as_dict(paired_bootstrap([after[case] - before[case] for case in common], seed=seed))


def as_dict(interval: Interval) -> dict[str, Any]:
    """An interval for JSON."""
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def mean_of(values: Mapping[str, float]) -> float | None:
    """The mean, or None of nothing."""
    return fmean(values.values()) if values else None
