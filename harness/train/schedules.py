"""Learning-rate schedules: pure functions of the step, stored by name and parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """``factor(step)`` for steps 0 … total−1: a linear rise over ``warmup`` steps, then constant, or down to 0."""

    name: ScheduleName
    total: int
    warmup: int = 0

    def factor(self, step: int) -> float:
        """The share of the peak rate that step number ``step`` (from 0) takes."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.name == "constant":
            return 1.0
        share = (step - self.warmup) / max(1, self.total - self.warmup)
        return 1.0 - share if self.name == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))

    def summed(self, steps: int) -> float:
        """Σ factor over the first ``steps`` steps; times the peak rate it is the Σ learning rate of METRICS §7."""
        return math.fsum(self.factor(step) for step in range(steps))
