"""The entrance: evaluate the model of a job, or any backend, on cases in formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.backends.local.backend import TransformersBackend, base_of
from harness.backends.protocol import Backend
from harness.errors import HarnessError
from harness.evaluation.aggregate import aggregate_scores, average_samples
from harness.evaluation.analysis.recall_table import recall_table
from harness.evaluation.checked_job import check_job
from harness.evaluation.engines import opened_engine
from harness.evaluation.execute import execute, read_results
from harness.evaluation.plan import RecallPlan, make_plan
from harness.evaluation.results import Evaluation, RecallSets, RecallTable
from harness.evaluation.scorer import Scorer
from harness.evaluation.settings import RESULTS_FILE, EvalJob, EvalSettings
from harness.evaluation.store.results_file import Store
from harness.files import refuse_unwritable
from harness.metrics.copies.recall_index import RecallIndex
from harness.models import LoadedModel
from harness.progress import note, recording
from harness.records import Case, Format, Group
from harness.run_file import find_adapter


def run_job(
    job: EvalJob,
    *,
    loaded: LoadedModel | None = None,
    recall: RecallSets | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> Evaluation:
    """Check everything that is cheap to check, load the model unless one is given, and evaluate.

    ``recall``: the rows and controls to measure it on, in place of those that the job names.
    Raises HarnessError for a mistake of the user's, before the model is loaded where possible.
    """
    refuse_unwritable(job.out, "choose another --out")
    checked = check_job(job)
    known, recall = checked.known, recall or checked.recall
    with opened_engine(checked.job, loaded, known) as (backend, native):
        loaded = backend.loaded if isinstance(backend, TransformersBackend) else None
        checked = checked.for_backend(backend, native, loaded)
        job, formats, settings = checked.job, checked.formats, checked.settings
        every_format = {one.id: one for one in (*known.values(), *formats)}.values()
        with Store(job.out / RESULTS_FILE) as store, recording(job.out):
            note(engine=backend.fingerprint, right=right_choices(checked.cases))
            return evaluate(
                backend,
                checked.cases,
                formats,
                checked.groups,
                native,
                store,
                settings,
                every_format=every_format,
                recall=recall,
                label=job.label,
                model=backend.model_name or job.model,
                adapter=job.adapter or (loaded.adapter if loaded else None),
                quiet=quiet,
                verbose=verbose,
            )


def right_choices(cases: Iterable[Case]) -> dict[str, int]:
    """Case → the number of its right choice, by which a reader of stored results counts them."""
    return {case.id: case.answer for case in cases if case.choices and case.answer is not None}


def evaluate(
    backend: Backend,
    cases: Sequence[Case],
    formats: Sequence[Format],
    groups: dict[str, Group],
    native: str | None,
    store: Store,
    settings: EvalSettings,
    *,
    every_format: Iterable[Format] = (),
    recall: RecallSets | None = None,
    label: str = "evaluate",
    model: str = "",
    adapter: str | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> Evaluation:
    """Evaluate a backend on cases in formats. What the store already has is not computed again.

    ``every_format``: the formats whose control strings count as leaks, by default ``formats``.
    """
    settings = settings.with_length_budget(cases).with_thought_budget(formats, groups)
    answers = recall.answers if recall else ()
    training_index = RecallIndex.build(answers) if answers else None
    scorer = Scorer(formats, native, every_format or formats, training_index)
    base = base_of(backend) if recall else None
    plan = make_plan(
        backend,
        cases,
        formats,
        groups,
        scorer,
        store,
        settings,
        recall,
        base,
        label=label,
        quiet=quiet,
        verbose=verbose,
    )
    computed = execute(plan.everything, backend, store, label=label, quiet=quiet, verbose=verbose)
    table = None
    if recall and plan.recall:
        table, by_base = _recall(recall, plan.recall, base, groups, store, label, quiet)
        computed += by_base
    results = read_results(plan.requests, store)
    scores = average_samples(
        scorer.score(plan.cases, results, plan.untestable),
        plan.further_samples,
        plan.cases,
        scorer,
        store,
    )
    asked = {(one.case, one.format) for one in plan.requests} if plan.look else None
    evaluation = Evaluation(
        label=label,
        model=model,
        adapter=adapter,
        fingerprint=backend.fingerprint,
        formats=plan.formats,
        groups=groups,
        native=native,
        cases=plan.cases,
        requests=plan.requests,
        results=results,
        scores=tuple(scores),
        aggregates=tuple(aggregate_scores(scores, groups, asked)),
        untestable=plan.untestable,
        settings=settings,
        computed=computed + sum(part.computed for part in (plan.budget, plan.look) if part),
        budget=plan.budget.sample if plan.budget else None,
        first_look=plan.look.look if plan.look else None,
        recall=table,
        control_index=scorer.index,
        training_index=training_index,
        training_answers=answers,
        no_loglikelihood=_no_loglikelihood(backend, plan.cases),
    )
    _keep_scores(evaluation, store)
    return evaluation


def _no_loglikelihood(backend: Backend, cases: Sequence[Case]) -> str:
    """The backend's reason, if a case needs log-probabilities. A server is asked for it."""
    return "" if all(case.checks for case in cases) else backend.no_loglikelihood


def _recall(
    sets: RecallSets,
    plan: RecallPlan,
    base: Backend | None,
    groups: Mapping[str, Group],
    store: Store,
    label: str,
    quiet: bool,
) -> tuple[RecallTable, int]:
    """Put the same requests to the base, if there is one; the table and the new results."""
    computed, by_base = 0, None
    if base is not None:
        computed = execute(plan.base_requests, base, store, label=f"{label}: base", quiet=quiet)
        by_base = read_results(plan.base_requests, store)
    results = read_results(plan.requests, store)
    return recall_table(sets, results, plan.formats, groups, label, by_base), computed


def _keep_scores(evaluation: Evaluation, store: Store) -> None:
    model, adapter = evaluation.model, evaluation.adapter
    store.put_scores(
        evaluation.label,
        f"{model} + {adapter}" if adapter else model,
        evaluation.fingerprint,
        evaluation.native,
        evaluation.settings.as_dict(),
        evaluation.scores,
        evaluation.formats,
        evaluation.cases,
    )


def run_adapters(
    job: EvalJob, adapters: Sequence[str], *, quiet: bool = False, verbose: bool = False
) -> list[Evaluation]:
    """Evaluate several adapters of one base. The results of each are stored by its digest.

    The base is loaded once, and again only after an adapter that added tokens to it.
    """
    from harness.backends.local.backend import load_model
    from harness.models import switch_adapter

    adapters = [str(find_adapter(Path(adapter))[0]) for adapter in adapters]
    loaded: LoadedModel | None = None
    evaluations = []
    labels = adapter_labels(adapters)
    with recording(job.out):
        for adapter, label in zip(adapters, labels, strict=True):
            if loaded is None or loaded.added_tokens:
                loaded = load_model(replace(job, adapter=None).spec)
            switch_adapter(loaded, adapter)
            one = replace(job, adapter=adapter, label=label)
            evaluations.append(run_job(one, loaded=loaded, quiet=quiet, verbose=verbose))
    return evaluations


def adapter_labels(adapters: Sequence[str]) -> list[str]:
    """The shortest ends of the adapters' paths that differ.

    Raises HarnessError for an adapter that is given twice.
    """
    parts = [Path(adapter).parts for adapter in dict.fromkeys(adapters)]
    if len(parts) < len(adapters):
        raise HarnessError("an adapter is given twice", where=", ".join(adapters))
    for count in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-count:]) for part in parts]
        if len(set(labels)) == len(labels):
            break
    return labels
