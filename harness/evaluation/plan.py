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
from harness.evaluation.first_look import LookPlan, look_in_rounds
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
class RecallPlan:
    """The requests of recall: training rows and controls, scored in each format and continued."""

    formats: tuple[Format, ...]
    requests: tuple[PlannedRequest, ...]
    base_requests: tuple[PlannedRequest, ...]
    """Those that the base is asked too, where there is an adapter on it."""


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """The requests of an evaluation: of its own cases, of further samples, and of recall."""

    cases: tuple[Case, ...]
    formats: tuple[Format, ...]
    requests: tuple[PlannedRequest, ...]
    further_samples: tuple[list[PlannedRequest], ...]
    """The second and later samples of each answer."""
    recall: RecallPlan | None
    untestable: tuple[Untestable, ...]
    budget: BudgetPlan | None
    """What a budget pays for, where there is one. A search has computed some of it already."""
    look: LookPlan | None = None
    """What a first look asked, and has computed."""

    @property
    def everything(self) -> list[PlannedRequest]:
        """All requests, in the order in which they are computed."""
        recall = self.recall.requests if self.recall else ()
        return [*self.requests, *chain(*self.further_samples), *recall]


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
    verbose: bool = False,
) -> EvalPlan:
    """List the requests that the settings ask for.

    A search for the best format and a first look compute as they go, since their next request
    depends on the answers so far.
    """
    builder = settings_builder(backend, settings)
    budget = look = None
    if settings.first_look:
        look = look_in_rounds(
            builder,
            cases,
            formats,
            scorer.native,
            scorer,
            backend,
            store,
            label=label,
            quiet=quiet,
            verbose=verbose,
        )
        cases, requests = look.cases, look.requests
    elif settings.budget:
        cases = budgeted(cases, settings.find, settings.find_by)
        possible = builder.build(cases, formats)
        budget = spend(possible, cases, formats, scorer, backend, store, settings, label, quiet)
        requests = budget.requests
    else:
        requests = plain_requests(builder, cases, formats, settings)
    planned = None
    if recall is not None and not backend.no_loglikelihood:
        chosen = pick_recall_formats(formats, groups, settings.recall_formats)
        planned = plan_recall(backend, base, recall, chosen, settings.recall_continued)
    elif recall is not None and not quiet:
        print(f"{label}: recall is not measured: {backend.no_loglikelihood}", file=sys.stderr)
    return EvalPlan(
        tuple(cases),
        tuple(formats),
        tuple(requests),
        tuple(build_further_samples(backend, settings, cases, formats)),
        planned,
        tuple(builder.untestable),
        budget,
        look,
    )


def plain_requests(
    builder: RequestBuilder,
    cases: Sequence[Case],
    formats: Sequence[Format],
    settings: EvalSettings,
) -> list[PlannedRequest]:
    """Each case in each format, and with ``flips`` the challenges of those with choices."""
    requests = builder.build(cases, formats)
    if settings.flips:
        challenged = [with_challenge(case) for case in cases if case.choices]
        requests += builder.build(challenged, formats)
    return requests


def settings_builder(backend: Backend, settings: EvalSettings) -> RequestBuilder:
    """A builder of requests whose answers are as long and sampled as the settings say."""
    return RequestBuilder(
        backend, settings.max_new_tokens, settings.sampling, settings.thought_tokens or 0
    )


def plan_recall(
    backend: Backend,
    base: Backend | None,
    recall: RecallSets,
    formats: Sequence[Format],
    continued: int,
) -> RecallPlan:
    """Score all rows and controls, and continue at most ``continued`` of either."""
    sides = (recall.train, recall.controls)
    both = list(chain(*sides))
    some = list(chain.from_iterable(spread_evenly(side, continued) for side in sides))
    builder = RequestBuilder(backend, RECALL_TOKENS)
    scored = builder.build(both, formats)
    return RecallPlan(
        tuple(formats),
        (*scored, *builder.build_continuations(some, formats, PREFIX_FRACTIONS, RECALL_TOKENS)),
        tuple(RequestBuilder(base, RECALL_TOKENS).build(both, formats)) if base else (),
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
        settings_builder(backend, settings).build(checked, formats, sample)
        for sample in range(1, settings.samples_per_case if settings.sampling else 1)
    ]
