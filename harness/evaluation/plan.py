"""All requests of an evaluation, listed before any of them is computed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.evaluation.analysis.recall_table import PREFIX_FRACTIONS
from harness.evaluation.cases.case_files import spread_evenly
from harness.evaluation.cases.variants import with_challenge
from harness.evaluation.requests import PlannedRequest, RequestBuilder, Untestable
from harness.evaluation.scorer import Scorer
from harness.evaluation.search.budget import BudgetPlan, budgeted, spend
from harness.evaluation.store.results_file import Store
from harness.records import Case, Format, Group

if TYPE_CHECKING:
    from harness.evaluation.results import RecallSets
    from harness.evaluation.settings import EvalSettings

RECALL_TOKENS = 50


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """The requests of an evaluation: of its own cases, of further samples, and of recall."""

    cases: tuple[Case, ...]
    formats: tuple[Format, ...]
    requests: tuple[PlannedRequest, ...]
    further_samples: tuple[list[PlannedRequest], ...]
    """The second and later samples of each answer."""
    recall_requests: tuple[PlannedRequest, ...]
    recall_formats: tuple[Format, ...]
    base_requests: tuple[PlannedRequest, ...]
    """Those of recall that the base is asked too, where there is an adapter on it."""
    untestable: tuple[Untestable, ...]
    budget: BudgetPlan | None
    """What a budget pays for, where there is one. A search has computed some of it already."""

    @property
    def everything(self) -> list[PlannedRequest]:
        """All requests, in the order in which they are computed."""
        return [*self.requests, *chain(*self.further_samples), *self.recall_requests]


def make_plan(
    backend: Backend,
    cases: Sequence[Case],
    formats: Sequence[Format],
    groups: dict[str, Group],
    scorer: Scorer,
    store: Store,
    settings: EvalSettings,
    recall: RecallSets | None,
    base: Backend | None = None,
    *,
    label: str,
    quiet: bool,
) -> EvalPlan:
    """List the requests that the settings ask for.

    A search for the best format computes as it goes, since its next request depends on the
    answers so far.
    """
    builder = RequestBuilder(backend, settings.max_new_tokens, settings.sampling)
    budget = None
    if settings.budget:
        cases = budgeted(cases, settings.find, settings.find_by)
        possible = builder.build(cases, formats)
        budget = spend(possible, cases, formats, scorer, backend, store, settings, label, quiet)
        requests = budget.requests
    else:
        requests = builder.build(cases, formats)
        if settings.flips:
            challenged = [with_challenge(case) for case in cases if case.choices]
            requests += builder.build(challenged, formats)
    recall_requests: list[PlannedRequest] = []
    base_requests: list[PlannedRequest] = []
    recall_formats = pick_recall_formats(formats, groups, settings.recall_formats)
    if recall is not None and backend.no_loglikelihood:
        if not quiet:
            print(f"{label}: recall is not measured: {backend.no_loglikelihood}", file=sys.stderr)
    elif recall is not None:
        both = (*recall.train, *recall.controls)
        recall_requests = builder.build(both, recall_formats)
        if base is not None:
            base_requests = RequestBuilder(base, 1).build(both, recall_formats)
        continued = [
            case
            for side in (recall.train, recall.controls)
            for case in spread_evenly(side, settings.recall_continued)
        ]
        recall_requests += builder.build_continuations(
            continued, recall_formats, PREFIX_FRACTIONS, RECALL_TOKENS
        )
    return EvalPlan(
        tuple(cases),
        tuple(formats),
        tuple(requests),
        tuple(build_further_samples(backend, settings, cases, formats)),
        tuple(recall_requests),
        tuple(recall_formats),
        tuple(base_requests),
        tuple(builder.untestable),
        budget,
    )


def pick_recall_formats(
    formats: Sequence[Format], groups: dict[str, Group], most: int
) -> list[Format]:
    """The native format, then seen and held-out ones in turn.

    Recall is slow, and its question is about trained against untrained formats.
    """
    native, seen, held_out = (
        [chat_format for chat_format in formats if groups[chat_format.id] == group]
        for group in ("native", "seen", "held-out")
    )
    rest = list(chain(*zip(seen, held_out, strict=False)))
    rest += [chat_format for chat_format in (*seen, *held_out) if chat_format not in rest]
    return (native + rest)[:most]


def build_further_samples(
    backend: Backend, settings: EvalSettings, cases: Iterable[Case], formats: Sequence[Format]
) -> list[list[PlannedRequest]]:
    """The requests of the second and later samples; the first is among the evaluation's own.

    What cannot be tested is known from the first.
    """
    checked = [case for case in cases if case.checks]
    return [
        RequestBuilder(backend, settings.max_new_tokens, settings.sampling).build(
            checked, formats, sample
        )
        for sample in range(1, settings.samples_per_case if settings.sampling else 1)
    ]
