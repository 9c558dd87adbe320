"""A budget of cells: which (case, format) to compute, and what the computed ones say about all (PromptEval, arXiv 2405.17202)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.results import FoundFormat
from harness.metrics.registry import KINDS, METRICS
from harness.records import Case

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation
    from harness.stats import Matrix

QUANTILES = (5, 25, 50, 75, 95)
_HINT = "give a share or a number of cells: --budget 10% or --budget 2000"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """One measure over all formats, estimated from ``cells`` of items × formats. ``by_format`` has each format's accuracy and how many of its cells were computed."""

    run: str
    metric: str
    items: int
    formats: int
    cells: int
    mean: Estimate
    spread: Estimate
    quantiles: dict[str, Estimate]
    by_format: dict[str, tuple[Estimate, int]]


def pairs_in_budget(budget: str, total: int) -> int:
    """How many of ``total`` cells ``10%`` or ``2000`` are. Raises HarnessError for anything else."""
    text = budget.strip()
    number = text.removesuffix("%").strip()
    try:
        size = float(number)
    except ValueError:
        raise HarnessError(f"--budget {budget!r} is no budget", hint=_HINT) from None
    cells = size * total / 100 if text.endswith("%") else size
    if (
        not 0 < cells < float("inf")
        or (not text.endswith("%") and not size.is_integer())
        or (text.endswith("%") and size > 100)
    ):
        raise HarnessError(f"--budget {budget!r} is no budget", hint=_HINT)
    return min(total, max(1, round(cells)))


def searchable(kind: str) -> list[str]:
    """The metrics of 0 or 1 that a kind of case has, headline metrics first."""
    found = [metric for metric in METRICS.values() if metric.binary and metric.kind == kind]
    return [m.name for m in sorted(found, key=lambda m: (not m.headline, m.rank)) if not m.optional]


def estimated(kind: str) -> list[str]:
    """The metrics of 0 or 1 that a budget's report estimates."""
    return [name for name in searchable(kind) if METRICS[name].headline]


def budgeted(cases: Sequence[Case], find: str = "", find_by: str = "") -> list[Case]:
    """The cases that a budget is spent on.

    Those with a metric of 0 or 1; for a search, those with its metric. Raises HarnessError
    without any.
    """
    kept = [case for case in cases if estimated(kind_of(case))]
    if not kept:
        raise HarnessError(
            "--budget needs cases with choices or checks",
            hint="references have no metric of 0 or 1: leave --budget out",
        )
    metric = read_metric(find_by, kept)
    return [case for case in kept if not find or metric in searchable(kind_of(case))]


def read_metric(name: str, cases: Sequence[Case]) -> str:
    """The metric to search by: ``name``, or the first headline metric of these cases.

    Raises HarnessError where no case has it.
    """
    present = [
        m for kind in KINDS if any(kind_of(c) == kind for c in cases) for m in searchable(kind)
    ]
    if name and name not in present:
        raise HarnessError(
            f"invalid --find-by {name!r}: these cases have no such metric of 0 or 1",
            hint=f"one of {', '.join(present)}",
        )
    return name or present[0]


def budget_rows(evaluation: Evaluation) -> list[BudgetRow]:
    """Each measure of 0 or 1 over all formats, estimated; empty without a budget, and after a search, whose cells are no balanced sample."""
    if evaluation.budget is None or evaluation.budget.found_formats:
        return []
    rows = []
    for kind in KINDS:
        cases = [case for case in evaluation.cases if kind_of(case) == kind]
        for metric in estimated(kind):
            row = _row(evaluation, cases, metric)
            if row is not None:
                rows.append(row)
    return rows


def _row(evaluation: Evaluation, cases: Sequence[Case], metric: str) -> BudgetRow | None:
    import numpy as np

    from harness.evaluation.results import scores_by_format
    from harness.stats.rasch import draw_format_means

    values = scores_by_format(evaluation.scores, metric)
    ids = [format.id for format in evaluation.formats if format.id in values]
    if len(ids) < 2:
        return None
    seen = np.array(
        [[values[format].get(case.id, np.nan) for format in ids] for case in cases], dtype=float
    )
    drawn = draw_format_means(seen, np.random.default_rng(evaluation.settings.seed))
    cells = (~np.isnan(seen)).sum(0).tolist()
    quantiles = {f"{q}%": _estimate(np.quantile(drawn, q / 100, axis=1)) for q in QUANTILES}
    return BudgetRow(
        evaluation.label,
        metric,
        len(cases),
        len(ids),
        sum(cells),
        _estimate(drawn.mean(1)),
        _estimate(drawn.max(1) - drawn.min(1)),
        quantiles,
        {
            id: (_estimate(drawn[:, at]), n)
            for at, (id, n) in enumerate(zip(ids, cells, strict=True))
        },
    )


def _estimate(draws: Matrix) -> Estimate:
    import numpy as np

    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(draws.mean()), float(low), float(high))


def budget_report(evaluation: Evaluation) -> dict[str, Any] | None:
    """What the report holds of a budget: the counts, the estimates, what was found, and each of them as a sentence."""
    if evaluation.budget is None:
        return None
    rows, sample = budget_rows(evaluation), evaluation.budget
    return {
        "run": evaluation.label,
        "cells": sample.pairs,
        "total": sample.total,
        "rows": [asdict(row) for row in rows],
        "found": [asdict(found) for found in sample.found_formats],
        "text": [*map(_told, rows), *map(_found_told, sample.found_formats)],
    }


def _told(row: BudgetRow) -> str:
    quantiles = ", ".join(f"{name} {_percent(value)}" for name, value in row.quantiles.items())
    share = row.cells / (row.items * row.formats)
    return (
        f"{row.metric} over {row.formats} formats, estimated from {row.cells} computed cells ({share:.0%} of {row.items} cases × {row.formats} formats): "
        f"mean {_percent(row.mean)}; quantiles over formats {quantiles}; best − worst {_percent(row.spread)}"
    )


def _found_told(found: FoundFormat) -> str:
    value = Estimate(found.value, found.low, found.high)
    return f"{found.goal} format by {found.metric}: {found.format}, {_percent(value)} on {found.n} cases that were not searched on ({found.searched_value:.0%} on the {found.searched_n} that were)"


def _percent(value: Estimate) -> str:
    return f"{100 * value.value:.0f} % ({100 * value.low:.0f} to {100 * value.high:.0f})"
