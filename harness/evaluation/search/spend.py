"""Spending a budget: from all the work that there is to the work that is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.evaluation import execute as runs
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.requests import Work
from harness.evaluation.results import Sample
from harness.evaluation.scorer import Scorer
from harness.evaluation.search.budget import MEASURES, cells_of, read_measure
from harness.evaluation.search.thompson import Place, read_goals, search
from harness.evaluation.store.results_file import Store
from harness.progress import progress
from harness.records import Case, Format

if TYPE_CHECKING:
    from harness.evaluation.settings import EvalSettings


@dataclass(frozen=True, slots=True)
class Spent:
    """The work that a budget pays for, and what of it was computed on the way because what to ask next hung on it."""

    work: list[Work]
    sample: Sample
    computed: int = 0


def spend(
    work: Sequence[Work],
    cases: Sequence[Case],
    formats: Sequence[Format],
    scorer: Scorer,
    backend: Backend,
    store: Store,
    settings: EvalSettings,
    label: str = "evaluate",
    quiet: bool = False,
) -> Spent:
    """A balanced sample of the work, or with ``settings.find`` what a search for the best and worst format asks for."""
    if not settings.find:
        return sampled(work, cases, formats, settings.budget, settings.seed)
    metric, goals = read_measure(settings.find_by, cases), read_goals(settings.find)
    total = len(cases) * len(formats)
    cells = cells_of(settings.budget, total)
    with progress(f"{label}: find {' and '.join(goals)}", cells, quiet=quiet, unit="cells") as bar:
        asking = _Asking(work, cases, formats, scorer, backend, store, metric)

        def compute(places: Sequence[Place]) -> Mapping[Place, float | None]:
            values = asking.compute(places)
            bar.advance(len(places))
            return values

        found = search(goals, metric, asking.there, cells, compute, settings.seed)
    return Spent(
        list(asking.done.values()), Sample(len(asking.done), total, tuple(found)), asking.computed
    )


class _Asking:
    """Computes places through the store, as any other work, and keeps what was asked."""

    def __init__(
        self,
        work: Sequence[Work],
        cases: Sequence[Case],
        formats: Sequence[Format],
        scorer: Scorer,
        backend: Backend,
        store: Store,
        metric: str,
    ) -> None:
        self.there = {(item.case, item.format): item for item in work}
        self.done: dict[Place, Work] = {}
        self.computed = 0
        self._cases, self._formats = (
            {case.id: case for case in cases},
            {format.id: format for format in formats},
        )
        self._scorer, self._backend, self._store, self._metric = scorer, backend, store, metric

    def compute(self, places: Sequence[Place]) -> dict[Place, float | None]:
        asked = {place: self.there[place] for place in places}
        self.done.update(asked)
        self.computed += runs.run(list(asked.values()), self._backend, self._store, quiet=True)
        results = runs.read(list(asked.values()), self._store)
        return {
            (case, format): self._scorer.measures(
                self._cases[case], self._formats[format], results
            )[self._metric][0]
            for case, format in places
        }


def sampled(
    work: Sequence[Work], cases: Sequence[Case], formats: Sequence[Format], budget: str, seed: int
) -> Spent:
    """The work of a random sample, balanced over cases and formats within each kind of case.

    What a format cannot carry was never work, so a sample may come out smaller than its budget.
    """
    import numpy as np

    from harness.stats.sampling_design import balanced_sample

    rng = np.random.default_rng(seed)
    total = len(cases) * len(formats)
    wanted = cells_of(budget, total)
    places: set[Place] = set()
    for kind in MEASURES:
        ids = [case.id for case in cases if kind_of(case) == kind]
        chosen = (
            balanced_sample(len(ids), len(formats), round(wanted * len(ids) / len(cases)), rng)
            if ids
            else []
        )
        places |= {(ids[item], formats[format].id) for item, format in chosen}
    kept = [item for item in work if (item.case, item.format) in places]
    return Spent(kept, Sample(len(kept), total))
