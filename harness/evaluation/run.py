"""An evaluation as a user asks for it: names and paths in, Evaluation out.

One model evaluated: the whole way from cases and formats to scores and cells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.backends.protocol import Backend
from harness.errors import HarnessError
from harness.evaluation import execute as runs
from harness.evaluation.aggregate import make_cells, score_draws
from harness.evaluation.analysis.recall_table import recall_sets, recall_table
from harness.evaluation.cases.case_files import limit_cases, load_cases
from harness.evaluation.cases.context_window import variants_of
from harness.evaluation.engines import engine
from harness.evaluation.format_groups import group_formats
from harness.evaluation.plan import Plan, make_plan
from harness.evaluation.results import Evaluation, RecallSets
from harness.evaluation.scorer import Scorer
from harness.evaluation.settings import RESULTS_FILE, EvalJob, EvalSettings
from harness.evaluation.store.results_file import Store
from harness.formats import FormatSet, load_formats
from harness.metrics.copies.recall_index import RecallIndex
from harness.models import LoadedModel, locate
from harness.records import Case, Format, Group
from harness.resources import data_dir
from harness.run_file import RUN_FILE


def run_adapters(
    job: EvalJob, adapters: Sequence[str], *, quiet: bool = False, verbose: bool = False
) -> list[Evaluation]:
    """Evaluate one adapter after another on a base that is loaded once. Each has cells of its own, by its digest.

    Only behind an adapter that added tokens to the base is it loaded anew.
    """
    from harness.models import load, switch_adapter

    for adapter in adapters:
        if not (Path(adapter) / "adapter_config.json").is_file():
            raise HarnessError(
                "no adapter_config.json",
                where=adapter,
                hint="give the folders that harness train wrote",
            )
    loaded: LoadedModel | None = None
    evaluations = []
    for adapter, label in zip(adapters, adapter_labels(adapters), strict=True):
        if loaded is None or loaded.added_tokens:
            loaded = load(job.model, dtype=job.dtype, quantisation=job.quantisation)
        switch_adapter(loaded, adapter)
        evaluations.append(
            run_job(
                replace(job, adapter=adapter, label=label),
                loaded=loaded,
                quiet=quiet,
                verbose=verbose,
            )
        )
    return evaluations


def adapter_labels(adapters: Sequence[str]) -> list[str]:
    """Short names that tell adapters apart: the folder's name, with its parents' where two are alike."""
    parts = [Path(adapter).parts for adapter in dict.fromkeys(adapters)]
    if len(parts) < len(adapters):
        raise HarnessError("an adapter is given twice", where=", ".join(adapters))
    for count in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-count:]) for part in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


def run_job(
    job: EvalJob, *, loaded: LoadedModel | None = None, quiet: bool = False, verbose: bool = False
) -> Evaluation:
    """Check everything that is cheap to check, load the model unless one is given, and evaluate it.

    Raises HarnessError for every mistake of the user's before the model is loaded, where that is possible.
    """
    known = load_formats(*map(Path, job.formats_dirs))
    formats = known.select(job.formats or known.default)
    if job.native is not None:
        known[job.native]
    cases = limit_cases(load_cases(job.cases), job.limit)
    recall = _recall_sets(job) if job.recall else None
    if loaded is None and job.endpoint is None and job.cluster is None:
        from harness.models import load

        loaded = load(
            job.model, adapter=job.adapter, dtype=job.dtype, quantisation=job.quantisation
        )
    with engine(job, loaded, known) as (backend, native):
        formats, groups = _columns(job, known, formats, native)
        cases += variants_of(job.variants, cases, formats, loaded, job.settings.max_new_tokens)
        with Store(job.out / RESULTS_FILE) as store:
            return evaluate(
                backend,
                cases,
                formats,
                groups,
                native,
                store,
                job.settings,
                every_format={format.id: format for format in (*known.values(), *formats)}.values(),
                recall=recall,
                label=job.label,
                model=loaded.name
                if loaded
                else locate(job.model).name
                if job.cluster
                else job.model,
                adapter=job.adapter or (loaded.adapter if loaded else None),
                quiet=quiet,
                verbose=verbose,
            )


def _columns(
    job: EvalJob, known: FormatSet, formats: list[Format], native: str | None
) -> tuple[list[Format], dict[str, Group]]:
    """The formats to measure, the model's own among them, by group: native, seen, held-out."""
    if native and not any(format.id == native for format in formats):
        formats = [known[native], *formats]
    if job.endpoint and job.endpoint.chat:
        formats = [
            known[native or "chatml"]
        ]  # a name for the column: the server's template decides
    groups = group_formats(formats, native, job.trained_families or _trained_families(job.adapter))
    return sorted(
        formats,
        key=lambda format: (("native", "seen", "held-out").index(groups[format.id]), format.id),
    ), groups


def _recall_sets(job: EvalJob) -> RecallSets:
    """The sets that the job names, or the shipped ones."""
    return recall_sets(
        job.train or (str(data_dir("trainset")),),
        job.twins or (str(data_dir("eval") / "twins.jsonl"),),
        job.settings.recall_examples,
    )


def _trained_families(adapter: str | None) -> tuple[str, ...]:
    """The families of formats that an adapter was trained in, as harness train noted them beside it."""
    if adapter is None:
        return ()
    for folder in (Path(adapter), Path(adapter).parent):
        file = folder / RUN_FILE
        if file.is_file():
            return tuple(json.loads(file.read_text(encoding="utf-8"))["trained_families"])
    return ()


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
    """Evaluate a backend on cases in formats. What the store already has is not computed again."""
    answers = recall.answers if recall else ()
    scorer = Scorer(
        formats, native, every_format or formats, RecallIndex.build(answers) if answers else None
    )
    plan = make_plan(
        backend, cases, formats, groups, scorer, store, settings, recall, label=label, quiet=quiet
    )
    computed = runs.run(plan.everything, backend, store, label=label, quiet=quiet, verbose=verbose)
    found = _scored(
        plan,
        scorer,
        store,
        native,
        settings,
        recall,
        label=label,
        model=model,
        adapter=adapter,
        fingerprint=backend.fingerprint,
        computed=computed,
    )
    name = f"{model} + {adapter}" if adapter else model
    store.put_scores(
        label,
        name,
        backend.fingerprint,
        native,
        settings.as_dict(),
        found.scores,
        found.formats,
        found.cases,
    )
    return found


def _scored(
    plan: Plan,
    scorer: Scorer,
    store: Store,
    native: str | None,
    settings: EvalSettings,
    recall: RecallSets | None,
    *,
    computed: int,
    **names: Any,
) -> Evaluation:
    """What the store now holds of a plan, as scores and cells. ``names``: label, model, adapter and fingerprint."""
    results = runs.read(plan.work, store)
    scores = score_draws(
        scorer.score(plan.cases, results, plan.untestable), plan.draws, plan.cases, scorer, store
    )
    return Evaluation(
        **names,
        formats=plan.formats,
        groups=plan.groups,
        native=native,
        cases=plan.cases,
        work=plan.work,
        results=results,
        scores=tuple(scores),
        cells=tuple(make_cells(scores, plan.groups)),
        untestable=plan.untestable,
        settings=settings,
        computed=computed + (plan.spent.computed if plan.spent else 0),
        sample=plan.spent.sample if plan.spent else None,
        recall=recall_table(
            recall,
            runs.read(plan.recall_work, store),
            plan.recall_formats,
            plan.groups,
            settings.seed,
        )
        if recall
        else None,
        index=scorer.index,
        corpus=scorer.corpus,
        training_answers=recall.answers if recall else (),
    )
