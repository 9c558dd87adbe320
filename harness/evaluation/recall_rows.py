"""What recall is measured on: trained rows, and controls of the same pool where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.conversation import Conversation
from harness.data.controls import (
    are_among,
    kind_of,
    of_their_kinds,
    read_controls,
    shipped_controls,
    without,
)
from harness.data.conversations import Collection, load_conversations
from harness.data.outputs import answer_texts
from harness.data.refusals import refused_places
from harness.data.row_source import DataSource, source_of
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import recall_case, spread_evenly
from harness.evaluation.results import RecallSets
from harness.metrics.canaries import TAG as CANARY
from harness.records import Case
from harness.resources import data_dir
from harness.run_file import read_run_metadata, run_of

if TYPE_CHECKING:
    from harness.evaluation.settings import EvalJob


def recall_sets_of(job: EvalJob) -> RecallSets:
    """The sets that the job names; else those of the adapter's run; else the shipped ones.

    Controls that are not named are those that the run set aside, or for rows of the shipped
    training set the shipped controls. Rows of another origin are held against none.
    """
    run = run_of(Path(job.adapter)) if job.adapter else None
    rows = load_conversations(job.train) if job.train else _rows_of_sets(run)
    if job.controls:
        controls: Sequence[Conversation] = load_conversations(job.controls)
    else:
        controls = (run and read_controls(run)) or ()
        if not are_among(controls, rows):
            controls = shipped_controls(rows)
    return recall_sets(without(rows, controls), controls, job.settings.recall_examples)


def trained_rows(run: Path) -> list[Conversation]:
    """What a run trained on: the rows of its sets without those that it refused or set aside.

    Raises HarnessError if a set is no longer where it was.
    """
    return without(_rows_of_sets(run), read_controls(run) or ())


def _rows_of_sets(run: Path | None) -> list[Conversation]:
    """The rows of a run's sets, less those that it refused; without a run, the shipped ones.

    Its controls are among them.
    """
    metadata = read_run_metadata(run) if run else None
    data: dict[str, Any] = metadata.config.get("data", {}) if metadata else {}
    base = Path(metadata.directory if metadata else ".")
    collection = Collection()
    for given in data.get("train") or [str(data_dir("trainset"))]:
        source = source_of(given) if isinstance(given, str) else DataSource(**given)
        place = base / source.path
        schema = source.schema if source.schema != "auto" else data.get("schema", "auto")
        path = str(place) if place.exists() else source.path
        collection.read(path, schema, source.split)
    # Both may be relative to the folder in which the run was started.
    refused = {base / listed for listed in refused_places(run)} if run else set()
    return [row for row in collection.conversations if base / row.place not in refused]


def recall_sets(
    rows: Sequence[Conversation], controls: Sequence[Conversation], most: int
) -> RecallSets:
    """At most ``most`` trained rows and as many controls, each spread evenly over their files.

    Controls of a kind that no trained row has are left out: they share no stratum with any.
    """
    controls = of_their_kinds(controls, rows)
    train, others = (
        spread_evenly(recall_cases(without_canaries(side)), most) for side in (rows, controls)
    )
    if not train:
        raise HarnessError(
            "recall needs conversations that end with a question and its answer",
            where=rows[0].place if rows else "",
            hint="name the training set with --train",
        )
    trained = {case.id for case in train}  # two files may number their rows alike
    others = [
        replace(case, id=f"control/{case.id}") if case.id in trained else case for case in others
    ]
    answers = [pair for row in rows for pair in answer_texts(row.id, row.messages)]
    return RecallSets(tuple(train), tuple(others), tuple(answers))


def without_canaries(rows: Sequence[Conversation]) -> Sequence[Conversation]:
    """The rows that are no canaries, unless all are: those have a null of their own."""
    return [row for row in rows if kind_of(row) != CANARY] or rows


def recall_cases(conversations: Sequence[Conversation]) -> list[Case]:
    """The conversations that end with a question and its answer, as reference cases."""
    return [case for case in map(recall_case, conversations) if case is not None]
