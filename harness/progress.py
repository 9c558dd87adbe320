"""Progress on standard error: bars on a terminal, else a plain line every twenty seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.terminal import console

if TYPE_CHECKING:
    from rich.progress import Progress

_PLAIN_EVERY_S = 20.0


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

    @property
    def rate(self) -> float:
        """Units a second since the start; 0 before anything is done."""
        spent = time.monotonic() - self.started
        return self.done / spent if spent > 0 else 0.0

    def advance(self, count: int = 1, info: str = "") -> None:
        """Count work as done."""
        self.done += count
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
