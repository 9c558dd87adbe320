"""Sampled answers: every case drawn several times in every format, each draw with a seed of its own, and what they score on average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from harness.backends.protocol import Backend
from harness.backends.sampling import Sampling
from harness.evaluate.run import read
from harness.evaluate.scores import Scorer
from harness.evaluate.store import Store
from harness.evaluate.work import Planner, Work
from harness.records import Case, Format, Score


def plan_draws(
    backend: Backend, max_new_tokens: int, sampling: Sampling | None, draws: int, cases: Iterable[Case], formats: Sequence[Format]
) -> list[list[Work]]:
    """The work of the second and later draws of each case with checks; the first is part of the evaluation's own work.

    What cannot be tested was told by the first draw.
    """
    checked = [case for case in cases if case.checks]
    return [Planner(backend, max_new_tokens, sampling).plan(checked, formats, draw) for draw in range(1, draws if sampling else 1)]


def score_draws(scores: Sequence[Score], draws: Sequence[Sequence[Work]], cases: Sequence[Case], scorer: Scorer, store: Store) -> list[Score]:
    """Each score of the first draw as the mean over all draws in which it was scored. A case stays one item, so n stays the cases."""
    found: dict[tuple[str, str, str], list[float]] = {}
    checked = [case for case in cases if case.checks]
    for work in draws:
        for score in scorer.score(checked, read(work, store), ()):
            if score.value is not None:
                found.setdefault((score.case, score.format, score.metric), []).append(score.value)
    return [_mean(score, found.get((score.case, score.format, score.metric), [])) for score in scores]


def _mean(first: Score, others: list[float]) -> Score:
    if not others:
        return first
    values = [*others] if first.value is None else [first.value, *others]
    return Score(first.case, first.format, first.metric, fmean(values), first.why)
