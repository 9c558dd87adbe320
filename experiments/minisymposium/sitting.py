"""Hours of work in sittings: where to stop once the time is over. The same command resumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from harness.errors import HarnessError
from harness.training.selection.early_stopping import StopDecision


class SittingOver(HarnessError):
    """The time of this sitting is over. Everything up to here is kept."""


class Sitting:
    """Some minutes of work, from now on; 0: no limit.

    Once they are over, the sitting ends at the next checkpoint, or before the next run or
    evaluation.
    """

    def __init__(self, minutes: float = 0.0) -> None:
        self.minutes = minutes
        self.ends = time.monotonic() + 60 * minutes if minutes else float("inf")
        self._asked: tuple[int, int] | None = None

    def check(self) -> None:
        """Raise SittingOver when the time is over."""
        if time.monotonic() >= self.ends:
            raise SittingOver(
                f"the sitting of {self.minutes:g} minutes is over",
                hint="the same command resumes",
            )

    def after_checkpoint(self, checkpoints: Sequence[dict[str, Any]]) -> StopDecision:
        """A stop rule of a run. It raises SittingOver and never ends the run.

        The rule is asked twice about a checkpoint, before it is logged and after. Only the second
        time may end the sitting, since what is not logged would be measured again.
        """
        newest = checkpoints[-1]["step"], len(checkpoints)
        logged = newest == self._asked
        self._asked = newest
        if logged:
            self.check()
        return StopDecision()
