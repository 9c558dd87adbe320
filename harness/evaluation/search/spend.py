"""Spending a budget: from all the work that there is to the work that is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.execute import execute, read_results
from harness.evaluation.requests import PlannedRequest
from harness.evaluation.results import BudgetSample
from harness.evaluation.scorer import Scorer
from harness.evaluation.search.budget import estimated, pairs_in_budget, read_metric
from harness.evaluation.search.thompson import Pair, read_goals, search
from harness.evaluation.store.results_file import Store
from harness.metrics.registry import KINDS
from harness.progress import progress
from harness.records import Case, Format

if TYPE_CHECKING:
    from harness.evaluation.settings import EvalSettings


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """The work that a budget pays for, and what of it was computed on the way because what to ask next hung on it."""

    requests: list[PlannedRequest]
    sample: BudgetSample
    computed: int = 0


def spend(
    requests: Sequence[PlannedRequest],
    cases: Sequence[Case],
    formats: Sequence[Format],
    scorer: Scorer,
    backend: Backend,
    store: Store,
    settings: EvalSettings,
    label: str = "evaluate",
    quiet: bool = False,
) -> BudgetPlan:
    """A balanced sample of the requests, or with ``settings.find`` what a search for the best and worst format asks for."""
    if not settings.find:
        return sampled(requests, cases, formats, settings.budget, settings.seed)
    metric, goals = read_metric(settings.find_by, cases), read_goals(settings.find)
    total = len(cases) * len(formats)
    cells = pairs_in_budget(settings.budget, total)
    with progress(f"{label}: find {' and '.join(goals)}", cells, quiet=quiet, unit="cells") as bar:
        asking = _Asking(requests, cases, formats, scorer, backend, store, metric)

        def compute(places: Sequence[Pair]) -> Mapping[Pair, float | None]:
            values = asking.compute(places)
            bar.advance(len(places))
            return values

        found = search(goals, metric, asking.there, cells, compute, settings.seed)
    return BudgetPlan(
        list(asking.done.values()),
        BudgetSample(len(asking.done), total, tuple(found)),
        asking.computed,
    )


class _Asking:
    """Computes places through the store, as any other work, and keeps what was asked."""

    def __init__(
        self,
        requests: Sequence[PlannedRequest],
        cases: Sequence[Case],
        formats: Sequence[Format],
        scorer: Scorer,
        backend: Backend,
        store: Store,
        metric: str,
    ) -> None:
        self.there = {(item.case, item.format): item for item in requests}
        self.done: dict[Pair, PlannedRequest] = {}
        self.computed = 0
        self._cases, self._formats = (
            {case.id: case for case in cases},
            {format.id: format for format in formats},
        )
        self._scorer, self._backend, self._store, self._metric = scorer, backend, store, metric

    def compute(self, places: Sequence[Pair]) -> dict[Pair, float | None]:
        asked = {place: self.there[place] for place in places}
        self.done.update(asked)
        self.computed += execute(list(asked.values()), self._backend, self._store, quiet=True)
        results = read_results(list(asked.values()), self._store)
        return {
            (case, format): self._scorer.values(self._cases[case], self._formats[format], results)[
                self._metric
            ][0]
            for case, format in places
        }


def sampled(
    requests: Sequence[PlannedRequest],
    cases: Sequence[Case],
    formats: Sequence[Format],
    budget: str,
    seed: int,
) -> BudgetPlan:
    """The requests of a random sample, balanced over cases and formats within each kind of case.

    What a format cannot carry was never work, so a sample may come out smaller than its budget.
    """
    import numpy as np

    from harness.stats.sampling_design import balanced_sample

    rng = np.random.default_rng(seed)
    total = len(cases) * len(formats)
    wanted = pairs_in_budget(budget, total)
    places: set[Pair] = set()
    for kind in filter(estimated, KINDS):
        ids = [case.id for case in cases if kind_of(case) == kind]
        chosen = (
            balanced_sample(len(ids), len(formats), round(wanted * len(ids) / len(cases)), rng)
            if ids
            else []
        )
        places |= {(ids[item], formats[format].id) for item, format in chosen}
    kept = [item for item in requests if (item.case, item.format) in places]
    return BudgetPlan(kept, BudgetSample(len(kept), total))
