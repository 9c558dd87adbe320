"""What the choice of a format does to the main rates, and what changed between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.evaluation.analysis.criteria import MARGIN
from harness.evaluation.analysis.summary import matrix
from harness.evaluation.results import scores_by_format
from harness.metrics.calibration import option_confidences
from harness.metrics.choice import picked
from harness.metrics.registry import METRICS, main_rates
from harness.metrics.robustness import (
    across,
    consistency,
    performance_sensitivity,
    sensitivity,
    top,
)
from harness.records import Case, Loglikelihood
from harness.report.document import AcrossRow, Change, Chosen

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation
    from harness.stats import Matrix


def across_rows(evaluation: Evaluation) -> list[AcrossRow]:
    """The rows of the main rates.

    Empty for one format, and under a budget, whose formats were measured on different cases.
    """
    if evaluation.budget is not None:
        return []
    return [row for metric in main_rates() if (row := _row(evaluation, metric)) is not None]


def _row(evaluation: Evaluation, metric: str) -> AcrossRow | None:
    import numpy as np

    from harness.stats import minimum_detectable_effect

    values = matrix(evaluation, metric)
    if values.shape[1] < 2:
        return None
    scored = scores_by_format(evaluation.scores, metric)
    names = [one.id for one in evaluation.formats if one.id in scored]
    means = dict(zip(names, np.nanmean(values, axis=0).tolist(), strict=True))
    shape, mean = across(list(means.values())), METRICS[metric].interval(values)
    native = means.get(evaluation.native or "")
    held_out = [means[name] for name in names if evaluation.groups[name] == "held-out"]
    options = _options(evaluation) if metric == "choice" else []
    best, worst = _chosen(values, names, evaluation.settings.seed)
    return AcrossRow(
        run=evaluation.label,
        metric=metric,
        formats=len(names),
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
        consistency=consistency([[picked(one) for one in by_format] for _, by_format in options]),
        sensitivity=sensitivity(
            [[option_confidences(case, one) for one in by_format] for case, by_format in options]
        ),
        top=top(held_out, native - MARGIN) if native is not None else None,
        sees=minimum_detectable_effect(len(values), rate=min(0.95, max(0.05, shape.avg))),
        p=_cochran(values),
        best=best,
        worst=worst,
    )


def _options(evaluation: Evaluation) -> list[tuple[Case, list[Sequence[Loglikelihood]]]]:
    """Each case with options, and their log-likelihoods in each format that has them."""
    scorings = evaluation.results.scorings
    return [
        (case, [scorings[case.id, f.id] for f in evaluation.formats if (case.id, f.id) in scorings])
        for case in evaluation.compared_cases
        if case.choices
    ]


def _chosen(values: Matrix, names: Sequence[str], seed: int) -> tuple[Chosen | None, Chosen | None]:
    """The best and the worst format, chosen on one half of the items and measured on the other."""
    from harness.stats import best_and_worst

    halves = best_and_worst(values, seed=seed)
    if halves is None:
        return None, None
    best, worst = halves.best_mean, halves.worst_mean
    return (
        (names[halves.best], best.value, best.low, best.high),
        (names[halves.worst], worst.value, worst.low, worst.high),
    )


def _cochran(values: Matrix) -> float | None:
    from harness.stats import cochran_q

    try:
        return cochran_q(values)
    except ValueError:
        return None


def changes(before: Evaluation, after: Evaluation) -> list[Change]:
    """What changed in each format, on the cases scored in both runs.

    With an interval of the paired difference and an exact test: McNemar's for values of 0
    and 1, a sign test for means over samples. ``p`` is adjusted over formats (Holm).
    """
    from harness.stats import holm, paired_test

    rows: list[Change] = []
    seed = after.settings.seed
    for metric in main_rates():
        was, now = (scores_by_format(run.scores, metric) for run in (before, after))
        pairs = {}
        for name in (one.id for one in after.formats):
            old, new = was.get(name, {}), now.get(name, {})
            same = [case for case in old if case in new]
            if same:
                pairs[name] = ([old[case] for case in same], [new[case] for case in same])
        adjusted = holm([paired_test(*pair, seed=seed) for pair in pairs.values()])
        for (name, (first, second)), p in zip(pairs.items(), adjusted, strict=True):
            differences = [b - a for a, b in zip(first, second, strict=True)]
            change = METRICS[metric].difference(differences)
            means = (sum(first) / change.n, sum(second) / change.n)
            rows.append(Change(name, metric, *means, change.low, change.high, p, change.n))
    return rows
