"""Differences between two models on the same cases, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.evaluation.results import Evaluation, scores_by_format
from harness.metrics.registry import METRICS

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
    before: Mapping[str, float], after: Mapping[str, float], metric: str
) -> dict[str, Any] | None:
    """Mean of after − before over the common cases, with its 95 % interval, or None."""
    common = [case for case in before if case in after]
    if not common:
        return None
    return as_dict(METRICS[metric].difference([after[case] - before[case] for case in common]))


def as_dict(interval: Interval) -> dict[str, Any]:
    """An interval for JSON."""
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def above(found: Mapping[str, Any] | None, limit: float = 0.0) -> bool:
    """Whether the whole interval is above the limit; False where there is no interval."""
    return bool(found and found["low"] is not None and found["low"] > limit)


def below(found: Mapping[str, Any] | None, limit: float = 0.0) -> bool:
    """Whether the whole interval is below the limit; False where there is no interval."""
    return bool(found and found["high"] is not None and found["high"] < limit)


def spelt(found: Mapping[str, Any] | None, form: str = ".3f") -> str:
    """``.5 (.4 to .6, n 40)``."""
    if found is None:
        return "–"
    span = (
        "no interval"
        if found["low"] is None
        else f"{found['low']:{form}} to {found['high']:{form}}"
    )
    return f"{found['value']:{form}} ({span}, n {found['n']})"


def mean_of(values: Mapping[str, float]) -> float | None:
    """The mean, or None of nothing."""
    return fmean(values.values()) if values else None
