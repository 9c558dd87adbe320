"""A budget: which (case, format) pairs are computed when not all can be.

A balanced random sample, from which the rest is estimated (analysis/budget_report.py), or the pairs
that a search for the best and worst format asks for (thompson.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.execute import execute, read_results
from harness.evaluation.requests import PlannedRequest
from harness.evaluation.results import BudgetSample
from harness.evaluation.scorer import Scorer
from harness.evaluation.search.thompson import Pair, read_goals, search
from harness.evaluation.store.results_file import Store
from harness.metrics.registry import KINDS, METRICS, Kind
from harness.progress import progress
from harness.records import Case, Format

if TYPE_CHECKING:
    from harness.evaluation.settings import EvalSettings


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """The requests that a budget pays for, and how many of them a search has computed already."""

    requests: list[PlannedRequest]
    sample: BudgetSample
    computed: int = 0


def pairs_in_budget(budget: str, total: int) -> int:
    """How many of ``total`` (case, format) pairs ``10%`` or ``2000`` are.

    Raises HarnessError for anything else.
    """
    text = budget.strip()
    percent = text.endswith("%")
    try:
        size = float(text.removesuffix("%"))
    except ValueError:
        size = 0.0
    if not (0 < size <= 100 if percent else 0 < size < float("inf") and size.is_integer()):
        raise HarnessError(
            f"invalid --budget {budget!r}: expected a percentage such as 10% or a number such as"
            " 2000"
        )
    return min(total, max(1, round(size * total / 100 if percent else size)))


def searchable(kind: Kind) -> list[str]:
    """The metrics of 0 or 1 that a kind of case has, headline metrics first."""
    binary = [metric for metric in METRICS.computed(kind) if metric.binary]
    return [
        m.name for m in sorted(binary, key=lambda m: (not m.headline, m.rank)) if not m.optional
    ]


def estimated(kind: Kind) -> list[str]:
    """The metrics of 0 or 1 that a budget's report estimates."""
    return [name for name in searchable(kind) if METRICS[name].headline]


def budgeted(cases: Sequence[Case], find: str = "", find_by: str = "") -> list[Case]:
    """The cases that a budget is spent on.

    Those with a metric of 0 or 1; for a search, those with its metric. Raises HarnessError without
    any.
    """
    able = [case for case in cases if estimated(kind_of(case))]
    if not able:
        raise HarnessError(
            "--budget needs cases with choices or checks",
            hint="references have no metric of 0 or 1: leave --budget out",
        )
    metric = read_metric(find_by, able)
    return [case for case in able if not find or metric in searchable(kind_of(case))]


def read_metric(name: str, cases: Sequence[Case]) -> str:
    """The metric to search by: ``name``, or the first headline metric of these cases.

    Raises HarnessError where no case has it.
    """
    kinds = {kind_of(case) for case in cases}
    present = [metric for kind in KINDS if kind in kinds for metric in searchable(kind)]
    if name and name not in present:
        raise HarnessError(
            f"invalid --find-metric {name!r}: these cases have no such metric of 0 or 1",
            hint=f"one of {', '.join(present)}",
        )
    return name or present[0]


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
    """A balanced sample of the requests, or with ``settings.find`` those that a search asks for."""
    if not settings.find:
        return balanced_requests(requests, cases, formats, settings.budget, settings.seed)
    metric, goals = read_metric(settings.find_by, cases), read_goals(settings.find)
    total = len(cases) * len(formats)
    budget = pairs_in_budget(settings.budget, total)
    possible = {(item.case, item.format): item for item in requests}
    asked: dict[Pair, PlannedRequest] = {}
    case_of, format_of = {case.id: case for case in cases}, {one.id: one for one in formats}
    computed = 0
    with progress(f"{label}: find {' and '.join(goals)}", budget, quiet=quiet, unit="cells") as bar:

        def compute(pairs: Sequence[Pair]) -> Mapping[Pair, float | None]:
            """Compute through the store, as any other request."""
            nonlocal computed
            some = [possible[pair] for pair in pairs]
            asked.update(zip(pairs, some, strict=True))
            computed += execute(some, backend, store, quiet=True)
            results = read_results(some, store)
            bar.advance(len(pairs))
            return {
                (case, name): scorer.values(case_of[case], format_of[name], results)[metric][0]
                for case, name in pairs
            }

        formats_found = search(goals, metric, possible, budget, compute, settings.seed)
    sample = BudgetSample(len(asked), total, tuple(formats_found))
    return BudgetPlan(list(asked.values()), sample, computed)


def balanced_requests(
    requests: Sequence[PlannedRequest],
    cases: Sequence[Case],
    formats: Sequence[Format],
    budget: str,
    seed: int,
) -> BudgetPlan:
    """The requests of a random sample, balanced over cases and formats within each kind of case.

    Pairs that a format cannot carry have no request, so a sample may be smaller than its budget.
    """
    import numpy as np

    from harness.stats.sampling_design import balanced_sample

    rng = np.random.default_rng(seed)
    total = len(cases) * len(formats)
    wanted = pairs_in_budget(budget, total)
    pairs: set[Pair] = set()
    for kind in filter(estimated, KINDS):
        ids = [case.id for case in cases if kind_of(case) == kind]
        if ids:
            n = round(wanted * len(ids) / len(cases))
            chosen = balanced_sample(len(ids), len(formats), n, rng)
            pairs |= {(ids[item], formats[at].id) for item, at in chosen}
    sample = [item for item in requests if (item.case, item.format) in pairs]
    return BudgetPlan(sample, BudgetSample(len(sample), total))
