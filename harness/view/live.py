"""What a run that goes on has done so far, from the files in its folder."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.evaluation.settings import RESULTS_FILE
from harness.metrics.choice import picked
from harness.progress import PROGRESS_FILE, PhaseRecord, RunRecord
from harness.records import Loglikelihood
from harness.report.document import REPORT_FILE, Training
from harness.run_file import METRICS_FILE, RUN_FILE, read_metrics

_QUERY = (
    "SELECT format.name, item.name, cell.probe, cell.payload FROM cell"
    " JOIN format ON format.id = cell.format JOIN item ON item.id = cell.item"
)


@dataclass(slots=True)
class FormatSoFar:
    """Counts of a format's results so far: how many of how many."""

    word: str = ""
    results: int = 0
    choices: int = 0
    right: int = 0
    answers: int = 0
    stopped: int = 0
    empty: int = 0
    references: int = 0
    nats: float = 0.0
    tokens: int = 0

    @property
    def nll(self) -> float | None:
        """Nats a token of the references, or None before there is one."""
        return self.nats / self.tokens if self.tokens else None

    def count(self, kind: str, payload: Any, right: int | None) -> None:
        """Add one stored result: an answer, or the log-probabilities of options or a reference."""
        self.results += 1
        if isinstance(payload, Mapping):
            self.answers += 1
            self.stopped += payload["finish"] == "stop"
            self.empty += not payload["text"].strip()
        elif kind == "choice" and right is not None:
            self.choices += 1
            options = [Loglikelihood(each["logprob"], each["tokens"]) for each in payload]
            self.right += picked(options) == right
        elif kind == "reference":
            self.references += 1
            self.nats -= payload[0]["logprob"]
            self.tokens += payload[0]["tokens"]


@dataclass(frozen=True, slots=True)
class Progress:
    """``formats``: what the stored results of this run say so far. ``training``: None without one.

    ``running``: a process is at work on it now, as far as this machine can see.
    """

    phases: tuple[PhaseRecord, ...] = ()
    formats: dict[str, FormatSoFar] = field(default_factory=dict)
    training: Training | None = None
    running: bool = False

    @property
    def begun(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.phases or self.formats or (self.training and self.training.steps))

    @property
    def sentence(self) -> str:
        """Where the run is, and how long the rest takes."""
        return "; ".join(self._parts()) or "nothing has been computed yet"

    def _parts(self) -> Iterator[str]:
        if self.training and self.training.steps:
            last = self.training.steps[-1]
            yield f"step {last['step']}, epoch {last['epoch']:g}, loss {last['loss']:.3f}"
        if total := sum(phase.total for phase in self.phases):
            done = sum(phase.done for phase in self.phases)
            yield f"{done} of {total} done ({done / total:.0%})"
        elif count := sum(one.results for one in self.formats.values()):
            formats = len(self.formats)
            yield f"{count} results in {formats} format{'s' * (formats != 1)}"
        if known := [phase.left_s for phase in self.phases if phase.left_s]:
            rest = [phase.name for phase in self.phases if not phase.done]
            after = f", then {', '.join(rest)}" if rest else ""
            yield f"about {duration(sum(known))} left{after}"
        if self.phases and not self.running:
            yield "no process is working on it now"


def time_left(phase: PhaseRecord) -> str:
    """How long the rest of a part takes, in words."""
    if phase.done >= phase.total:
        return "done"
    if phase.left_s is None:
        return "not known yet" if phase.done else "not started"
    return f"about {duration(phase.left_s)} left"


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def files_of(folder: Path) -> dict[str, Path]:
    """The files that show a run's progress, by name; a demo trains in its folder ``train/``."""
    places = {
        RESULTS_FILE: [folder],
        METRICS_FILE: [folder, folder / "train"],
        PROGRESS_FILE: [folder, folder / "train"],
        REPORT_FILE: [folder],
    }
    found = {
        name: max(
            (place / name for place in where if (place / name).is_file()),
            key=lambda path: path.stat().st_mtime,
            default=None,
        )
        for name, where in places.items()
    }
    return {name: path for name, path in found.items() if path is not None}


def has_begun(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return bool(files_of(folder)) or (folder / RUN_FILE).is_file()


def is_running(folder: Path) -> bool:
    """Whether a process is at work on the run now, as far as this machine can see.

    A demo is at work from its beginning to its end, also where its training is over.
    """
    return any(_at_work(_record(place / PROGRESS_FILE)) for place in (folder, folder / "train"))


def read_progress(folder: Path) -> Progress:
    """Read what is there; a file that is being written, or damaged, counts as empty."""
    files = files_of(folder)
    record = _record(files.get(PROGRESS_FILE, folder / PROGRESS_FILE))
    formats = _results(files[RESULTS_FILE], record) if RESULTS_FILE in files else {}
    for name, word in record.notes.words.items():
        formats.setdefault(name, FormatSoFar()).word = word
    return Progress(
        phases=record.phases,
        formats=dict(sorted(formats.items())),
        training=_training(files[METRICS_FILE]) if METRICS_FILE in files else None,
        running=is_running(folder),
    )


def _record(path: Path) -> RunRecord:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(RunRecord).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return RunRecord()


def _at_work(record: RunRecord) -> bool:
    """Whether the process that writes the file lives; on another machine, as the file says."""
    if not record.pid or record.finished:
        return False
    if record.machine != platform.node() or os.name != "posix":
        return True
    try:
        os.kill(record.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _results(path: Path, record: RunRecord) -> dict[str, FormatSoFar]:
    """The results of this run's engine, by format. All of the file's, where nothing names it."""
    found: dict[str, FormatSoFar] = {}
    query, chosen = _QUERY, []
    if record.notes.engine:
        query += " JOIN engine ON engine.id = cell.engine WHERE engine.facts = ?"
        chosen = [json.dumps(record.notes.engine, sort_keys=True)]
    try:
        place = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, uri=True, timeout=5)) as db:
            for name, case, kind, payload in db.execute(query, chosen):
                one = found.setdefault(name, FormatSoFar())
                one.count(kind, json.loads(payload), record.notes.right.get(case))
    except (sqlite3.Error, ValueError, KeyError, TypeError, IndexError):
        return {}
    return found


def _training(path: Path) -> Training:
    entries = read_metrics(path.parent)
    return Training(
        schedule="",
        steps=tuple(entry for entry in entries if entry["kind"] == "step"),
        checkpoints=tuple(entry for entry in entries if entry["kind"] == "checkpoint"),
    )
