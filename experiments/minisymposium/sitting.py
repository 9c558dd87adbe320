"""A run of hours in sittings: where to stop once the time is over. The same command resumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from harness.errors import HarnessError
from harness.training.selection.early_stopping import StopDecision


class SittingOver(HarnessError):
    """The time of this sitting is over. Everything up to here is kept."""


class Sitting:
    """A sitting of some minutes, from now; 0: without an end.

    It ends at the first checkpoint, or before the first run or evaluation, after that.
    """

    def __init__(self, minutes: float = 0.0) -> None:
        self.minutes = minutes
        self.ends = time.monotonic() + 60 * minutes if minutes else float("inf")
        self._measured: set[str] = set()

    def check(self) -> None:
        """Raise SittingOver when the time is over."""
        if time.monotonic() >= self.ends:
            raise SittingOver(
                f"the sitting of {self.minutes:g} minutes is over",
                hint="the same command resumes",
            )

    def after_checkpoint(self, checkpoints: Sequence[dict[str, Any]]) -> StopDecision:
        """A stop rule of a run. It raises SittingOver and never ends the run.

        A checkpoint is asked about twice, before it is logged and after; only then it is kept.
        """
        newest = f"{checkpoints[-1]['step']} of {len(checkpoints)}"
        if newest in self._measured:
            self._measured.clear()
            self.check()
        self._measured.add(newest)
        return StopDecision()
