"""Progress on standard error and in a file: bars on a terminal, else a line every twenty seconds.

``recording`` lets every phase of a run also write ``progress.json`` into the run's folder, which
``harness view`` reads: how much there is to do, how much is done, and how long the rest takes.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import write_text
from harness.terminal import console

if TYPE_CHECKING:
    from rich.progress import Progress

PROGRESS_FILE = "progress.json"
_PLAIN_EVERY_S = 20.0
#: The file is written at most this often, but for the beginning and the end of a phase.
_WRITE_EVERY_S = 1.0
#: Time left is estimated from the pace of the last seconds, at least these: the first answers of a
#: batch take longest.
_PACE_S = 60.0


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """A part of the work. ``left_s``: seconds that the rest takes, None before anything is done."""

    name: str
    total: int
    done: int = 0
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunNotes:
    """What an evaluation notes about itself.

    ``engine`` is its backend's fingerprint, ``right`` the index of the right choice of each case,
    ``words`` the verdict on each format after a round of a first look.
    """

    engine: dict[str, str] = field(default_factory=dict)
    right: dict[str, int] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The file progress.json. ``finished``: the run is over, also where its process lives on.

    ``machine`` and ``pid`` are those of the process that writes it.
    """

    machine: str = ""
    pid: int = 0
    finished: bool = False
    phases: tuple[PhaseRecord, ...] = ()
    notes: RunNotes = field(default_factory=RunNotes)


class Phase:
    """One piece of work with a known total, of which ``done`` was done before it began.

    ``advance`` counts what is done.
    """

    def __init__(
        self,
        name: str,
        total: int,
        bars: Progress | None,
        quiet: bool,
        unit: str = "",
        done: int = 0,
    ) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = self._before = done
        self.started = self.printed = time.monotonic()
        self._seen = deque([(self.started, done)])
        self._bars = bars
        self._quiet = quiet
        self._task = (
            bars.add_task(name, total=total, completed=done, info="", pace="")
            if bars is not None
            else None
        )
        _record(self)

    @property
    def rate(self) -> float:
        """Units a second since the start; 0 before anything is done."""
        spent = time.monotonic() - self.started
        return (self.done - self._before) / spent if spent > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at the latest pace; None before anything is done."""
        (began, before), (now, done) = self._seen[0], self._seen[-1]
        if done >= self.total:
            return 0.0
        return (now - began) / (done - before) * (self.total - done) if done > before else None

    def advance(self, count: int = 1, info: str = "") -> None:
        """Count work as done."""
        self.done += count
        self._seen.append((time.monotonic(), self.done))
        while self._seen[-1][0] - self._seen[1][0] >= _PACE_S:
            self._seen.popleft()
        _record(self)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=count, info=info, pace=self._pace())
        elif (
            not self._quiet
            and count
            and (time.monotonic() - self.printed > _PLAIN_EVERY_S or self.done >= self.total)
        ):
            self.printed = time.monotonic()
            print(self._line(info), file=sys.stderr, flush=True)

    def _line(self, info: str) -> str:
        spent, left_s = time.monotonic() - self.started, self.left_s
        left = f"in {spent:.0f} s" if not left_s else f"{left_s:.0f} s left"
        pace = ", ".join(part for part in (self._pace(), left) if part)
        return f"{self.name}: {self.done}/{self.total}, {pace}{'  ' + info if info else ''}"

    def _pace(self) -> str:
        if not self.unit or not self.rate:
            return ""
        return (
            f"{self.rate:.0f} {self.unit}/s"
            if self.rate >= 10
            else f"{self.rate:.2g} {self.unit}/s"
        )


@contextmanager
def progress(
    name: str, total: int, *, quiet: bool = False, unit: str = "", done: int = 0
) -> Iterator[Phase]:
    """Show a phase of work, with its rate if there is a ``unit``.

    ``done`` is what an earlier process did of it. Nothing is shown when ``quiet``, or when there is
    nothing to do.
    """
    if quiet or total == 0 or not sys.stderr.isatty():
        yield Phase(name, total, None, quiet or total == 0, unit, done)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with Progress(*columns, console=console(stderr=True)) as bars:
        yield Phase(name, total, bars, quiet, unit, done)


class Recorder:
    """Writes the phases of one run into its folder. It stops no run if the file cannot be written.

    Several processes in one folder overwrite each other's file; the results themselves are in the
    results file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS_FILE
        self.notes = RunNotes()
        self.finished = False
        self._phases: dict[str, PhaseRecord] = {}
        self.written = 0.0

    def expect(self, name: str, total: int) -> None:
        """A phase that has not begun."""
        self._phases[name] = PhaseRecord(name, total)

    def changed(self, phase: Phase) -> None:
        """A phase began, or something of it was done."""
        known = self._phases.get(phase.name)
        self._phases[phase.name] = PhaseRecord(phase.name, phase.total, phase.done, phase.left_s)
        turn = known is None or not known.done or phase.done >= phase.total
        if turn or time.monotonic() - self.written >= _WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the file."""
        self.written = time.monotonic()
        phases = tuple(self._phases.values())
        record = RunRecord(platform.node(), os.getpid(), self.finished, phases, self.notes)
        with suppress(HarnessError, OSError, ValueError):
            write_text(self.path, json.dumps(asdict(record)) + "\n")


_RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Record the phases inside the block in ``folder``, and at its end that they are over.

    Inside another block for the same folder, it is that one's end that counts.
    """
    outer = _RECORDER.get()
    if outer is not None and outer.path == folder / PROGRESS_FILE:
        yield
        return
    recorder = Recorder(folder)
    before = _RECORDER.set(recorder)
    try:
        yield
    finally:
        _RECORDER.reset(before)
        recorder.finished = True
        if recorder.written and folder.is_dir():  # a mistake may end it before it begins
            recorder.write()


def expect(name: str, total: int) -> None:
    """Record a phase that will begin later."""
    if (recorder := _RECORDER.get()) is not None and total:
        recorder.expect(name, total)


def note(**facts: Any) -> None:
    """Record fields of ``RunNotes``."""
    if (recorder := _RECORDER.get()) is not None:
        recorder.notes = replace(recorder.notes, **facts)
        recorder.write()


def _record(phase: Phase) -> None:
    if (recorder := _RECORDER.get()) is not None and phase.total:
        recorder.changed(phase)
