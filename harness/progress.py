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
#: The pace is that of the last seconds, at least these: a run that was resumed has done much at
#: once, and the first answers of a batch take longest.
_PACE_S = 60.0


class Phase:
    """One piece of work with a known total. ``advance`` counts what is done."""

    def __init__(
        self, name: str, total: int, bars: Progress | None, quiet: bool, unit: str = ""
    ) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0
        self.started = self.printed = time.monotonic()
        self._bars = bars
        self._quiet = quiet
        self._task = (
            bars.add_task(name, total=total, info="", pace="") if bars is not None else None
        )
        _record(self)

    @property
    def rate(self) -> float:
        """Units a second since the start; 0 before anything is done."""
        spent = time.monotonic() - self.started
        return self.done / spent if spent > 0 else 0.0

    def advance(self, count: int = 1, info: str = "") -> None:
        """Count work as done."""
        self.done += count
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
        spent = time.monotonic() - self.started
        left = (
            f"{spent / self.done * (self.total - self.done):.0f} s left"
            if self.done < self.total
            else f"in {spent:.0f} s"
        )
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
def progress(name: str, total: int, *, quiet: bool = False, unit: str = "") -> Iterator[Phase]:
    """Show a phase of work, with its rate if there is a ``unit``.

    Nothing is shown when ``quiet``, or when there is nothing to do.
    """
    if quiet or total == 0 or not sys.stderr.isatty():
        yield Phase(name, total, None, quiet or total == 0, unit)
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
        yield Phase(name, total, bars, quiet, unit)


class Recorder:
    """Writes the phases of one run into its folder. A file that cannot be written ends nothing.

    ``notes`` are facts for the reader of the file. Several processes in one folder overwrite each
    other's file; the results themselves are in the results file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS_FILE
        self.notes: dict[str, Any] = {}
        self.finished = False
        self._phases: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, deque[tuple[float, int]]] = {}
        self._written = 0.0

    def expect(self, name: str, total: int) -> None:
        """A phase that has not begun."""
        if total:
            self._phases[name] = {"name": name, "total": total, "done": 0, "left_s": None}

    def changed(self, phase: Phase) -> None:
        """Something of a phase was done."""
        now = time.monotonic()
        seen = self._seen.setdefault(phase.name, deque())
        if phase.done == 0:
            seen.clear()
        elif len(seen) == 1 and seen[0][1] == 0 and now - seen[0][0] < _WRITE_EVERY_S / 10:
            seen.clear()  # what a resumed run had done before
        seen.append((now, phase.done))
        while len(seen) > 2 and now - seen[1][0] >= _PACE_S:
            seen.popleft()
        self._phases[phase.name] = {
            "name": phase.name,
            "total": phase.total,
            "done": phase.done,
            "left_s": _left(seen, phase.total),
        }
        ended = phase.done in (0, phase.total)
        if ended or now - self._written >= _WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the file."""
        self._written = time.monotonic()
        record = {
            "machine": platform.node(),
            "pid": os.getpid(),
            "finished": self.finished,
            "phases": list(self._phases.values()),
            "notes": self.notes,
        }
        with suppress(HarnessError, OSError, ValueError):
            write_text(self.path, json.dumps(record) + "\n")


_RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    """Record the phases inside the block in ``folder``, and at its end that they are over."""
    recorder = Recorder(folder)
    before = _RECORDER.set(recorder)
    try:
        yield recorder
    finally:
        _RECORDER.reset(before)
        recorder.finished = True
        if folder.is_dir():
            recorder.write()


def expect(name: str, total: int) -> None:
    """Record a phase that will begin later."""
    if (recorder := _RECORDER.get()) is not None:
        recorder.expect(name, total)


def note(**facts: Any) -> None:
    """Record facts of the run, as JSON values, for whoever reads the file."""
    if (recorder := _RECORDER.get()) is not None:
        recorder.notes |= facts
        recorder.write()


def _record(phase: Phase) -> None:
    if (recorder := _RECORDER.get()) is not None and phase.total:
        recorder.changed(phase)


def _left(seen: deque[tuple[float, int]], total: int) -> float | None:
    """Seconds until ``total``, at the pace between the first and the last of these moments."""
    (began, before), (now, done) = seen[0], seen[-1]
    if done >= total:
        return 0.0
    return (now - began) / (done - before) * (total - done) if done > before else None
