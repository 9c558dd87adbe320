"""What the choice of a format does to the main measures of a run, and what changed from one run to the next, format by format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.evaluation.analysis.compatibility import MARGIN
from harness.evaluation.analysis.summary import matrix
from harness.evaluation.results import scores_by_format
from harness.metrics.calibration import option_confidences
from harness.metrics.registry import main_rates
from harness.metrics.robustness import (
    across,
    consistency,
    performance_sensitivity,
    sensitivity,
    top,
)

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation
    from harness.stats import Matrix


@dataclass(frozen=True, slots=True)
class AcrossRow:
    """One measure over the formats of a run. What could not be computed is None.

    ``best`` and ``worst`` were chosen on one half of the items; their means are from the other half, with intervals.
    ``top`` is the share of held-out formats that stay within 10 points of native. ``sees`` is the difference between two
    formats that as many items find in 80 of 100 tries (one-sided test at 5 %, correlation .5). ``low`` and ``high`` bound
    ``avg`` for these very formats, items as clusters. ``p`` is Cochran's.
    """

    run: str
    metric: str
    formats: int
    n: int
    avg: float
    low: float
    high: float
    max: float
    min: float
    spread: float
    sat: float
    cps: float
    pss: float | None
    consistency: float | None
    sensitivity: float | None
    top: float | None
    sees: float
    p: float | None
    best: tuple[str, float, float, float] | None
    worst: tuple[str, float, float, float] | None


def across_rows(evaluation: Evaluation) -> list[AcrossRow]:
    """The rows of the main rates; empty for one format, and under a budget, whose formats were measured on different items."""
    if evaluation.budget is not None:
        return []
    return [row for metric in main_rates() if (row := _row(evaluation, metric)) is not None]


def _row(evaluation: Evaluation, metric: str) -> AcrossRow | None:
    import numpy as np

    from harness.stats import clustered_interval, minimum_detectable_effect

    values = matrix(evaluation, metric)
    if values.shape[1] < 2:
        return None
    ids = _formats(evaluation, metric)
    means = np.nanmean(values, axis=0)
    shape, mean = across(means.tolist()), clustered_interval(values)
    native = means[ids.index(evaluation.native)] if evaluation.native in ids else None
    held = [
        float(value)
        for id, value in zip(ids, means, strict=True)
        if evaluation.groups[id] == "held-out"
    ]
    options = metric == "choice"
    best, worst = _chosen(values, ids, evaluation.settings.seed)
    return AcrossRow(
        run=evaluation.label,
        metric=metric,
        formats=len(ids),
        n=len(values),
        avg=shape.avg,
        low=mean.low,
        high=mean.high,
        max=shape.max,
        min=shape.min,
        spread=shape.spread,
        sat=shape.sat,
        cps=shape.cps,
        pss=performance_sensitivity(
            [[float(value) for value in item if not np.isnan(value)] for item in values]
        ),
        consistency=consistency(_picked(evaluation)) if options else None,
        sensitivity=sensitivity(_shares(evaluation)) if options else None,
        top=top(held, float(native) - MARGIN) if native is not None else None,
        sees=minimum_detectable_effect(len(values), rate=min(0.95, max(0.05, shape.avg))),
        p=_cochran(values),
        best=best,
        worst=worst,
    )


def _formats(evaluation: Evaluation, metric: str) -> list[str]:
    """The formats of ``matrix``, in its order."""
    values = scores_by_format(evaluation.scores, metric)
    return [format.id for format in evaluation.formats if format.id in values]


def _chosen(
    values: Matrix, ids: Sequence[str], seed: int
) -> tuple[tuple[str, float, float, float] | None, tuple[str, float, float, float] | None]:
    from harness.stats import best_and_worst

    found = best_and_worst(values, seed=seed)
    if found is None:
        return None, None
    best, worst = found.best_mean, found.worst_mean
    return (ids[found.best], best.value, best.low, best.high), (
        ids[found.worst],
        worst.value,
        worst.low,
        worst.high,
    )


def _cochran(values: Matrix) -> float | None:
    from harness.stats import cochran_q

    try:
        return cochran_q(values)
    except ValueError:
        return None


def _shares(evaluation: Evaluation) -> list[list[list[float]]]:
    """Confidences in the options: items × formats × options."""
    found = []
    for case in evaluation.cases:
        if case.choices:
            scored = [
                evaluation.results.scorings.get((case.id, format.id))
                for format in evaluation.formats
            ]
            found.append(
                [option_confidences(case, scorings) for scorings in scored if scorings is not None]
            )
    return found


def _picked(evaluation: Evaluation) -> list[list[int]]:
    """The likeliest option: items × formats."""
    found = []
    for case in evaluation.cases:
        if case.choices:
            scored = [
                evaluation.results.scorings.get((case.id, format.id))
                for format in evaluation.formats
            ]
            plain = [
                [scoring.logprob for scoring in scorings]
                for scorings in scored
                if scorings is not None
            ]
            found.append([values.index(max(values)) for values in plain])
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """One measure in one format, before and after, on the cases scored in both. ``p`` is adjusted over the formats of the measure (Holm)."""

    format: str
    metric: str
    before: float
    after: float
    low: float
    high: float
    p: float
    n: int


def changes(before: Evaluation, after: Evaluation) -> list[Change]:
    """What changed in each format, with a bootstrap interval of the paired difference, and an exact test: McNemar's for 0 and 1, of signs for means over draws."""
    from harness.stats import holm, paired_bootstrap, paired_test

    found: list[Change] = []
    for metric in main_rates():
        was, now = scores_by_format(before.scores, metric), scores_by_format(after.scores, metric)
        pairs = {}
        for format in after.formats:
            old, new = was.get(format.id, {}), now.get(format.id, {})
            same = [case for case in old if case in new]
            if same:
                pairs[format.id] = ([old[case] for case in same], [new[case] for case in same])
        adjusted = holm([paired_test(*pair, seed=after.settings.seed) for pair in pairs.values()])
        for (id, (old_values, new_values)), p in zip(pairs.items(), adjusted, strict=True):
            change = paired_bootstrap(
                [b - a for a, b in zip(old_values, new_values, strict=True)],
                seed=after.settings.seed,
            )
            n = change.n
            found.append(
                Change(
                    id,
                    metric,
                    sum(old_values) / n,
                    sum(new_values) / n,
                    change.low,
                    change.high,
                    p,
                    n,
                )
            )
    return found
