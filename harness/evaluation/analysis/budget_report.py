"""All (case, format) pairs estimated from those that a budget paid for.

PromptEval, Polo et al. 2024, arXiv 2405.17202.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.results import scores_by_format
from harness.evaluation.search.budget import estimated
from harness.metrics.registry import KINDS
from harness.records import Case
from harness.report.document import Budget, BudgetRow, Estimate, FoundFormat

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation
    from harness.stats import Matrix

QUANTILES = (5, 25, 50, 75, 95)


def budget_report(evaluation: Evaluation) -> Budget | None:
    """The counts and estimates of a budget, what a search found, and each as a sentence."""
    sample = evaluation.budget
    if sample is None:
        return None
    rows = budget_rows(evaluation)
    return Budget(
        evaluation.label,
        sample.pairs,
        sample.total,
        tuple(rows),
        sample.found_formats,
        (*map(_describe_row, rows), *map(_describe_found, sample.found_formats)),
    )


def budget_rows(evaluation: Evaluation) -> list[BudgetRow]:
    """The estimates of each metric of 0 or 1 over all formats.

    Empty without a budget, and after a search, whose pairs are no balanced sample.
    """
    if evaluation.budget is None or evaluation.budget.found_formats:
        return []
    rows = []
    for kind in KINDS:
        cases = [case for case in evaluation.cases if kind_of(case) == kind]
        rows += [_row(evaluation, cases, metric) for metric in estimated(kind)]
    return [row for row in rows if row is not None]


def _row(evaluation: Evaluation, cases: Sequence[Case], metric: str) -> BudgetRow | None:
    import numpy as np

    from harness.stats.rasch import draw_format_means

    values = scores_by_format(evaluation.scores, metric)
    names = [one.id for one in evaluation.formats if one.id in values]
    if len(names) < 2:
        return None
    table = np.array(
        [[values[name].get(case.id, np.nan) for name in names] for case in cases], dtype=float
    )
    means = draw_format_means(table, np.random.default_rng(evaluation.settings.seed))
    computed = (~np.isnan(table)).sum(0).tolist()
    return BudgetRow(
        evaluation.label,
        metric,
        len(cases),
        len(names),
        sum(computed),
        _estimate(means.mean(1)),
        _estimate(means.max(1) - means.min(1)),
        {f"{q}%": _estimate(np.quantile(means, q / 100, axis=1)) for q in QUANTILES},
        {name: (_estimate(means[:, at]), computed[at]) for at, name in enumerate(names)},
    )


def _estimate(draws: Matrix) -> Estimate:
    import numpy as np

    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(draws.mean()), float(low), float(high))


def _describe_row(row: BudgetRow) -> str:
    quantiles = ", ".join(f"{name} {_percent(value)}" for name, value in row.quantiles.items())
    fraction = row.cells / (row.items * row.formats)
    return (
        f"{row.metric} over {row.formats} formats, estimated from {row.cells} computed cells"
        f" ({fraction:.0%} of {row.items} cases × {row.formats} formats):"
        f" mean {_percent(row.mean)}; quantiles over formats {quantiles};"
        f" best − worst {_percent(row.spread)}"
    )


def _describe_found(found: FoundFormat) -> str:
    return (
        f"{found.goal} format by {found.metric}: {found.format}, {_percent(found)} on {found.n}"
        f" cases that were not searched on ({found.searched_value:.0%} on the"
        f" {found.searched_n} that were)"
    )


def _percent(value: Estimate | FoundFormat) -> str:
    if value.low is None or value.high is None:
        return f"{100 * value.value:.0f} %"
    return f"{100 * value.value:.0f} % ({100 * value.low:.0f} to {100 * value.high:.0f})"
