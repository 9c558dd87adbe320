"""An evaluation as a user asks for it: names and paths in, Evaluation out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.evaluate.cases import limit_cases, load_cases
from harness.evaluate.engines import engine
from harness.evaluate.groups import group_formats
from harness.evaluate.recall_sets import recall_sets
from harness.evaluate.session import EvalSettings, Evaluation, RecallSets, evaluate
from harness.evaluate.store import Store
from harness.evaluate.variants import Variants
from harness.evaluate.window import variants_of
from harness.formats import FormatSet, load_formats
from harness.models import Dtype, LoadedModel, locate
from harness.quantisation import Quantisation
from harness.records import Format, Group
from harness.resources import data_dir

RESULTS_FILE = "results.sqlite"
RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server that runs the model. ``chat`` sends messages, so that the server's own template is measured."""

    url: str
    api_key: str = "none"
    chat: bool = False
    concurrency: int = 8
    retries: int = 8


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that holds the model on many workers. No address: one is started here; no number of workers: one a GPU or machine."""

    address: str | None = None
    workers: int = 0


@dataclass(frozen=True, slots=True)
class EvalJob:
    """What to evaluate. Empty ``formats`` mean the common ones and all of ``formats_dirs``, empty ``cases`` all that are shipped."""

    model: str
    adapter: str | None = None
    formats: tuple[str, ...] = ()
    formats_dirs: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    limit: int | None = None
    out: Path = Path("build/eval")
    dtype: Dtype = "auto"
    quantisation: Quantisation = field(default_factory=Quantisation)
    native: str | None = None
    trained_families: tuple[str, ...] = ()
    variants: Variants = field(default_factory=Variants)
    endpoint: Endpoint | None = None
    cluster: Cluster | None = None
    recall: bool = False
    train: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    label: str = "evaluate"
    settings: EvalSettings = field(default_factory=EvalSettings)


def run_adapters(job: EvalJob, adapters: Sequence[str], *, quiet: bool = False, verbose: bool = False) -> list[Evaluation]:
    """Evaluate one adapter after another on a base that is loaded once. Each has cells of its own, by its digest.

    Only behind an adapter that added tokens to the base is it loaded anew.
    """
    from harness.models import load, switch_adapter

    for adapter in adapters:
        if not (Path(adapter) / "adapter_config.json").is_file():
            raise HarnessError("no adapter_config.json", where=adapter, hint="give the folders that harness train wrote")
    loaded: LoadedModel | None = None
    evaluations = []
    for adapter, label in zip(adapters, adapter_labels(adapters), strict=True):
        if loaded is None or loaded.added_tokens:
            loaded = load(job.model, dtype=job.dtype, quantisation=job.quantisation)
        switch_adapter(loaded, adapter)
        evaluations.append(run_job(replace(job, adapter=adapter, label=label), loaded=loaded, quiet=quiet, verbose=verbose))
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


def run_job(job: EvalJob, *, loaded: LoadedModel | None = None, quiet: bool = False, verbose: bool = False) -> Evaluation:
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

        loaded = load(job.model, adapter=job.adapter, dtype=job.dtype, quantisation=job.quantisation)
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
                model=loaded.name if loaded else locate(job.model).name if job.cluster else job.model,
                adapter=job.adapter or (loaded.adapter if loaded else None),
                quiet=quiet,
                verbose=verbose,
            )


def _columns(job: EvalJob, known: FormatSet, formats: list[Format], native: str | None) -> tuple[list[Format], dict[str, Group]]:
    """The formats to measure, the model's own among them, by group: native, seen, held-out."""
    if native and not any(format.id == native for format in formats):
        formats = [known[native], *formats]
    if job.endpoint and job.endpoint.chat:
        formats = [known[native or "chatml"]]  # a name for the column: the server's template decides
    groups = group_formats(formats, native, job.trained_families or _trained_families(job.adapter))
    return sorted(formats, key=lambda format: (("native", "seen", "held-out").index(groups[format.id]), format.id)), groups


def _recall_sets(job: EvalJob) -> RecallSets:
    """The sets that the job names, or the shipped ones."""
    return recall_sets(job.train or (str(data_dir("trainset")),), job.twins or (str(data_dir("eval") / "twins.jsonl"),), job.settings.recall_examples)


def _trained_families(adapter: str | None) -> tuple[str, ...]:
    """The families of formats that an adapter was trained in, as harness train noted them beside it."""
    if adapter is None:
        return ()
    for folder in (Path(adapter), Path(adapter).parent):
        file = folder / RUN_FILE
        if file.is_file():
            return tuple(json.loads(file.read_text(encoding="utf-8"))["trained_families"])
    return ()
