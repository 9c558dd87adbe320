"""Scores → aggregates: one mean with its interval for each format and metric."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean

from harness.evaluation.execute import read_results
from harness.evaluation.requests import PlannedRequest
from harness.evaluation.scorer import Scorer
from harness.evaluation.store.results_file import Store
from harness.metrics.registry import METRICS
from harness.records import Aggregate, Case, Group, Score


def aggregate_scores(
    scores: Iterable[Score],
    groups: Mapping[str, Group],
    asked: Collection[tuple[str, str]] | None = None,
) -> list[Aggregate]:
    """The mean of each metric in each format, in the order in which they first occur.

    ``asked`` holds the pairs of case and format ids that count, by default all. A first look leaves
    the others out: what was never asked is not a missing score.
    """
    values: dict[tuple[str, str], list[float | None]] = {}
    for score in scores:
        of_place = values.setdefault((score.format, score.metric), [])
        if asked is None or (score.case, score.format) in asked:
            of_place.append(score.value)
    return [
        _aggregate(format_id, groups[format_id], metric, of_place)
        for (format_id, metric), of_place in values.items()
    ]


def _aggregate(
    format_id: str, group: Group, metric: str, values: Sequence[float | None]
) -> Aggregate:
    scored = [value for value in values if value is not None]
    not_scored = len(values) - len(scored)
    if not scored:
        return Aggregate(format_id, group, metric, None, None, None, 0, not_scored)
    mean = METRICS[metric].interval(scored)
    return Aggregate(format_id, group, metric, mean.value, mean.low, mean.high, mean.n, not_scored)


def average_samples(
    scores: Sequence[Score],
    further_samples: Sequence[Sequence[PlannedRequest]],
    cases: Sequence[Case],
    scorer: Scorer,
    store: Store,
) -> list[Score]:
    """Each score as the mean over all samples in which it was scored.

    ``scores`` are those of the first sample. A case stays one item, so n counts cases.
    """
    values: dict[tuple[str, str, str], list[float]] = {}
    checked = [case for case in cases if case.checks]
    for requests in further_samples:
        for score in scorer.score(checked, read_results(requests, store), ()):
            if score.value is not None:
                values.setdefault((score.case, score.format, score.metric), []).append(score.value)
    return [
        _average(score, values.get((score.case, score.format, score.metric), []))
        for score in scores
    ]


def _average(first: Score, others: list[float]) -> Score:
    if not others:
        return first
    values = others if first.value is None else [first.value, *others]
    return Score(first.case, first.format, first.metric, fmean(values), first.why)
