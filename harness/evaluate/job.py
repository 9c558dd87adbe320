"""An evaluation as a user asks for it: names and paths in, Evaluation out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.data.conversations import load_conversations
from harness.errors import HarnessError
from harness.evaluate.cases import limit_cases, load_cases, recall_case
from harness.evaluate.groups import group_formats, native_format
from harness.evaluate.session import Evaluation, EvalSettings, RecallSets, evaluate
from harness.evaluate.store import Store
from harness.formats import FormatSet, load_formats
from harness.models import Dtype, LoadedModel
from harness.records import Case, Conversation
from harness.resources import data_dir

RESULTS_FILE = "results.sqlite"
RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class EvalJob:
    """What to evaluate. Empty ``formats`` and ``cases`` mean all that are shipped."""

    model: str
    adapter: str | None = None
    formats: tuple[str, ...] = ()
    formats_dirs: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    limit: int | None = None
    out: Path = Path("build/eval")
    dtype: Dtype = "auto"
    native: str | None = None
    trained_formats: tuple[str, ...] = ()
    recall: bool = False
    train: tuple[str, ...] = ()
    label: str = "evaluate"
    settings: EvalSettings = field(default_factory=EvalSettings)


def run_job(job: EvalJob, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Evaluation:
    """Check everything that is cheap to check, load the model unless one is given, and evaluate it.

    Raises HarnessError for every mistake of the user's before the model is loaded, where that is possible.
    """
    known = load_formats(*map(Path, job.formats_dirs))
    formats = known.select(job.formats) if job.formats else list(known.values())
    if job.native is not None:
        known[job.native]
    cases = limit_cases(load_cases(job.cases), job.limit)
    train = load_conversations(job.train or [str(data_dir("trainset"))]) if job.recall else []
    if loaded is None:
        from harness.models import load

        loaded = load(job.model, adapter=job.adapter, dtype=job.dtype)
    from harness.backends.transformers import TransformersBackend

    native = job.native or own_native(loaded, known)
    if native and not any(format.id == native for format in formats):
        formats.insert(0, known[native])
    trained = job.trained_formats or _trained_formats(job.adapter)
    groups = group_formats(formats, native, trained, known.values())
    formats.sort(key=lambda format: (("native", "seen", "held-out").index(groups[format.id]), format.id))
    with Store(job.out / RESULTS_FILE) as store:
        return evaluate(
            TransformersBackend(loaded),
            cases,
            formats,
            groups,
            native,
            store,
            job.settings,
            every_format=known.values(),
            recall=recall_sets(train, cases, job.settings.recall_examples) if job.recall else None,
            label=job.label,
            model=loaded.name,
            adapter=job.adapter or loaded.adapter,
            quiet=quiet,
        )


def own_native(loaded: LoadedModel, known: FormatSet) -> str | None:
    """The id of the format that equals the model's own chat template, if one does."""
    found = native_format(loaded.tokenizer, known.values())
    return found.id if found else None


def recall_sets(train: Sequence[Conversation], cases: Sequence[Case], most: int) -> RecallSets:
    """At most ``most`` training rows, spread evenly over the files, and the reference cases as their twins."""
    rows = [case for case in (recall_case(conversation) for conversation in train) if case is not None]
    if len(rows) > most:
        rows = [rows[index * len(rows) // most] for index in range(most)]
    null = tuple(case for case in cases if case.reference is not None)
    if not rows or not null:
        raise HarnessError("recall needs training conversations and reference cases as their null", hint="add cases with a reference")
    return RecallSets(tuple(rows), null)


def _trained_formats(adapter: str | None) -> tuple[str, ...]:
    """The formats that an adapter was trained in, as harness train noted them beside it."""
    if adapter is None:
        return ()
    for folder in (Path(adapter), Path(adapter).parent):
        file = folder / RUN_FILE
        if file.is_file():
            return tuple(json.loads(file.read_text(encoding="utf-8"))["trained_formats"])
    return ()
