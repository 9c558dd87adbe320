"""Scores → cells: one mean with its interval per format and measure. The only place where a cell is made.

Sampled answers: every case drawn several times in every format, each draw with a seed of its own, and what they score on average.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from harness.evaluation.execute import read
from harness.evaluation.requests import Work
from harness.evaluation.scorer import Scorer
from harness.evaluation.store.results_file import Store
from harness.records import Case, Aggregate, Group, Score
from harness.stats import mean_interval


def make_cells(scores: Iterable[Score], groups: Mapping[str, Group]) -> list[Aggregate]:
    """Cells in the order in which formats and measures first occur."""
    values: dict[tuple[str, str], list[float]] = {}
    lost: dict[tuple[str, str], int] = {}
    for score in scores:
        place = (score.format, score.metric)
        values.setdefault(place, [])
        if score.value is None:
            lost[place] = lost.get(place, 0) + 1
        else:
            values[place].append(score.value)
    return [
        _cell(format, groups[format], metric, found, lost.get((format, metric), 0))
        for (format, metric), found in values.items()
    ]


def _cell(format: str, group: Group, metric: str, values: list[float], lost: int) -> Aggregate:
    if not values:
        return Aggregate(format, group, metric, None, None, None, 0, lost)
    interval = mean_interval(values)
    return Aggregate(
        format, group, metric, interval.value, interval.low, interval.high, interval.n, lost
    )


def score_draws(
    scores: Sequence[Score],
    draws: Sequence[Sequence[Work]],
    cases: Sequence[Case],
    scorer: Scorer,
    store: Store,
) -> list[Score]:
    """Each score of the first draw as the mean over all draws in which it was scored. A case stays one item, so n stays the cases."""
    found: dict[tuple[str, str, str], list[float]] = {}
    checked = [case for case in cases if case.checks]
    for work in draws:
        for score in scorer.score(checked, read(work, store), ()):
            if score.value is not None:
                found.setdefault((score.case, score.format, score.metric), []).append(score.value)
    return [
        _mean(score, found.get((score.case, score.format, score.metric), [])) for score in scores
    ]


def _mean(first: Score, others: list[float]) -> Score:
    if not others:
        return first
    values = [*others] if first.value is None else [first.value, *others]
    return Score(first.case, first.format, first.metric, fmean(values), first.why)
