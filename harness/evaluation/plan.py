"""All that an evaluation asks of its engine, before any of it is computed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.backends.sampling import Sampling
from harness.evaluation.analysis.recall_table import RECALL_SHARES
from harness.evaluation.cases.variants import challenged
from harness.evaluation.requests import Planner, Untestable, Work
from harness.evaluation.scorer import Scorer
from harness.evaluation.search.budget import budgeted
from harness.evaluation.search.spend import Spent, spend
from harness.evaluation.store.results_file import Store
from harness.records import Case, Format, Group

if TYPE_CHECKING:
    from harness.evaluation.results import RecallSets
    from harness.evaluation.settings import EvalSettings

RECALL_TOKENS = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of an evaluation: of its own cases, of further draws of their answers, and of recall."""

    cases: tuple[Case, ...]
    formats: tuple[Format, ...]
    groups: dict[str, Group]
    work: tuple[Work, ...]
    draws: tuple[list[Work], ...]
    recall_work: tuple[Work, ...]
    recall_formats: tuple[Format, ...]
    untestable: tuple[Untestable, ...]
    spent: Spent | None
    """What a budget pays for, where there is one. A search has computed some of it already."""

    @property
    def everything(self) -> list[Work]:
        """All of the work, in the order in which it is computed."""
        return [*self.work, *chain(*self.draws), *self.recall_work]


def make_plan(
    backend: Backend,
    cases: Sequence[Case],
    formats: Sequence[Format],
    groups: dict[str, Group],
    scorer: Scorer,
    store: Store,
    settings: EvalSettings,
    recall: RecallSets | None,
    *,
    label: str,
    quiet: bool,
) -> Plan:
    """Find all the work that the settings ask for. A search for the best format computes as it goes: what it asks next hangs on the answers."""
    planner = Planner(backend, settings.max_new_tokens, settings.sampling)
    cases = budgeted(cases, settings.find, settings.find_by) if settings.budget else cases
    work = planner.plan(cases, formats)
    spent = (
        spend(work, cases, formats, scorer, backend, store, settings, label, quiet)
        if settings.budget
        else None
    )
    work = spent.work if spent else work
    if settings.flips and spent is None:
        work += planner.plan([challenged(case) for case in cases if case.choices], formats)
    recall_work: list[Work] = []
    recall_formats = pick_recall_formats(formats, groups, settings.recall_formats)
    if recall is not None and backend.no_loglikelihood:
        if not quiet:
            print(f"{label}: recall is not measured: {backend.no_loglikelihood}", file=sys.stderr)
    elif recall is not None:
        both = (*recall.train, *recall.null)
        recall_work = planner.plan(both, recall_formats) + planner.plan_continuations(
            both, recall_formats, RECALL_SHARES, RECALL_TOKENS
        )
    draws = plan_draws(
        backend, settings.max_new_tokens, settings.sampling, settings.draws, cases, formats
    )
    untestable = tuple(planner.untestable)
    return Plan(
        tuple(cases),
        tuple(formats),
        groups,
        tuple(work),
        tuple(draws),
        tuple(recall_work),
        tuple(recall_formats),
        untestable,
        spent,
    )


def pick_recall_formats(
    formats: Sequence[Format], groups: dict[str, Group], most: int
) -> list[Format]:
    """The native format, then seen and held-out ones in turn: recall is dear, and its question is trained against untrained."""
    native = [format for format in formats if groups[format.id] == "native"]
    seen = [format for format in formats if groups[format.id] == "seen"]
    held = [format for format in formats if groups[format.id] == "held-out"]
    rest = [format for pair in zip(seen, held, strict=False) for format in pair]
    rest += [format for format in (*seen, *held) if format not in rest]
    return (native + rest)[:most]


def plan_draws(
    backend: Backend,
    max_new_tokens: int,
    sampling: Sampling | None,
    draws: int,
    cases: Iterable[Case],
    formats: Sequence[Format],
) -> list[list[Work]]:
    """The work of the second and later draws of each case with checks; the first is part of the evaluation's own work.

    What cannot be tested was told by the first draw.
    """
    checked = [case for case in cases if case.checks]
    return [
        Planner(backend, max_new_tokens, sampling).plan(checked, formats, draw)
        for draw in range(1, draws if sampling else 1)
    ]
