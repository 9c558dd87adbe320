"""Progress on standard error: rich bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_PLAIN_EVERY_S = 20.0


class Phase:
    """One piece of work with a known total. ``advance`` says what is done and what it was like."""

    def __init__(self, name: str, total: int, bars: Progress | None, quiet: bool) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self.started = self.told = time.monotonic()
        self._bars = bars
        self._quiet = quiet
        self._task = bars.add_task(name, total=total, info="") if bars is not None else None

    def advance(self, count: int = 1, info: str = "") -> None:
        """Count work as done."""
        self.done += count
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=count, info=info)
        elif not self._quiet and (time.monotonic() - self.told > _PLAIN_EVERY_S or self.done >= self.total):
            self.told = time.monotonic()
            spent = self.told - self.started
            left = spent / self.done * (self.total - self.done) if self.done else 0.0
            rest = f", {left:.0f} s left" if self.done < self.total else f" in {spent:.0f} s"
            print(f"{self.name}: {self.done}/{self.total}{rest}{'  ' + info if info else ''}", file=sys.stderr, flush=True)


@contextmanager
def progress(name: str, total: int, *, quiet: bool = False) -> Iterator[Phase]:
    """A phase of work on standard error; silent when ``quiet`` or when there is nothing to do."""
    if quiet or total == 0 or not sys.stderr.isatty():
        yield Phase(name, total, None, quiet or total == 0)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield Phase(name, total, bars, quiet)
