"""All that an evaluation asks of its engine, before any of it is computed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.evaluate.budget import budgeted
from harness.evaluate.confidence import challenged
from harness.evaluate.draws import plan_draws
from harness.evaluate.recall import RECALL_SHARES
from harness.evaluate.scores import Scorer
from harness.evaluate.spend import Spent, spend
from harness.evaluate.store import Store
from harness.evaluate.work import Planner, Untestable, Work
from harness.records import Case, Format, Group

if TYPE_CHECKING:
    from harness.evaluate.session import EvalSettings, RecallSets

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
    spent = spend(work, cases, formats, scorer, backend, store, settings, label, quiet) if settings.budget else None
    work = spent.work if spent else work
    if settings.flips and spent is None:
        work += planner.plan([challenged(case) for case in cases if case.choices], formats)
    recall_work: list[Work] = []
    recall_formats = pick_recall_formats(formats, groups, settings.recall_formats)
    if recall is not None and backend.unscorable:
        if not quiet:
            print(f"{label}: recall is not measured: {backend.unscorable}", file=sys.stderr)
    elif recall is not None:
        both = (*recall.train, *recall.null)
        recall_work = planner.plan(both, recall_formats) + planner.plan_continuations(both, recall_formats, RECALL_SHARES, RECALL_TOKENS)
    draws = plan_draws(backend, settings.max_new_tokens, settings.sampling, settings.draws, cases, formats)
    untestable = tuple(planner.untestable)
    return Plan(tuple(cases), tuple(formats), groups, tuple(work), tuple(draws), tuple(recall_work), tuple(recall_formats), untestable, spent)


def pick_recall_formats(formats: Sequence[Format], groups: dict[str, Group], most: int) -> list[Format]:
    """The native format, then seen and held-out ones in turn: recall is dear, and its question is trained against untrained."""
    native = [format for format in formats if groups[format.id] == "native"]
    seen = [format for format in formats if groups[format.id] == "seen"]
    held = [format for format in formats if groups[format.id] == "held-out"]
    rest = [format for pair in zip(seen, held, strict=False) for format in pair]
    rest += [format for format in (*seen, *held) if format not in rest]
    return (native + rest)[:most]
