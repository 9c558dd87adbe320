"""Learning-rate schedules: pure functions of the step, stored by name and parameters."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from harness.training.config import ScheduleConfig
from harness.training.config.sections import ScheduleName


@dataclass(frozen=True, slots=True)
class Schedule:
    """``factor(step)`` for steps 0 … total−1, in [0, 1].

    A rise over ``warmup`` steps, then the shape over the steps that are left, as transformers draws it (with one
    difference: no step has the rate 0 before the end). sigmoid and piecewise are drawn over the whole run, and the rise is
    a ceiling on them. ``floor`` is the share of the peak that the shapes that fall end at.
    """

    name: ScheduleName
    total: int
    warmup: int = 0
    floor: float = 0.0
    cycles: int = 1
    decay: int = 0
    decay_type: str = "1-sqrt"
    shape: str = "fall"
    midpoint: float = 0.5
    steepness: float = 10.0
    points: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, config: ScheduleConfig, total: int) -> Schedule:
        """The schedule of a run of ``total`` steps."""
        return cls(
            name=config.lr_scheduler_type,
            total=total,
            warmup=min(total, config.warmup_steps or round(config.warmup_ratio * total)),
            floor=config.min_lr_ratio,
            cycles=config.num_cycles,
            decay=max(1, round(config.decay_ratio * total)),
            decay_type=config.decay_type,
            shape=config.sigmoid_shape,
            midpoint=config.midpoint,
            steepness=config.steepness,
            points=config.points,
        )

    def factor(self, step: int) -> float:
        """The share of the peak rate that step number ``step`` (from 0) takes."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if self.name == "constant":
            return rise
        if self.name == "piecewise":
            return min(rise, _on_lines(self.points, (step + 0.5) / self.total))
        if self.name == "sigmoid":
            return min(rise, self._above_floor(self._sigmoid((step + 0.5) / self.total)))
        return rise if step < self.warmup else self._above_floor(self._fall(step))

    def summed(self, steps: int) -> float:
        """Σ factor over the first ``steps`` steps; times the peak rate it is the Σ learning rate of METRICS §7."""
        return math.fsum(self.factor(step) for step in range(steps))

    def _above_floor(self, value: float) -> float:
        return self.floor + (1.0 - self.floor) * value

    def _fall(self, step: int) -> float:
        """From 1 down to 0 after the warm-up."""
        share = (step - self.warmup) / max(1, self.total - self.warmup)
        if self.name == "linear":
            return 1.0 - share
        if self.name == "cosine":
            return _half_cosine(share)
        if self.name == "cosine_with_restarts":
            return _half_cosine((self.cycles * share) % 1.0)
        begin = max(self.warmup, self.total - self.decay)
        return (
            1.0
            if step < begin
            else _COOL_DOWN[self.decay_type]((step - begin) / max(1, self.total - begin))
        )

    def _sigmoid(self, share: float) -> float:
        """fall and rise reach 0 and 1 exactly at the ends of the run. A bump is the slope of a sigmoid, 1 at its midpoint: Σ rate goes slow, fast, slow."""
        at = _logistic(self.steepness * (share - self.midpoint))
        if self.shape == "bump":
            return 4.0 * at * (1.0 - at)
        low, high = (_logistic(self.steepness * (end - self.midpoint)) for end in (0.0, 1.0))
        risen = (at - low) / (high - low)
        return risen if self.shape == "rise" else 1.0 - risen


def _half_cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * share))


_COOL_DOWN = {
    "1-sqrt": lambda share: 1.0 - math.sqrt(share),
    "linear": lambda share: 1.0 - share,
    "cosine": _half_cosine,
}


def _logistic(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


def _on_lines(points: tuple[tuple[float, float], ...], share: float) -> float:
    """The height at ``share`` of the straight lines through the points; where two stand at one place, the later one counts from there on."""
    after = min(bisect_right([place for place, _ in points], share), len(points) - 1)
    (x0, y0), (x1, y1) = points[after - 1], points[after]
    return y1 if x1 == x0 else y0 + (y1 - y0) * (share - x0) / (x1 - x0)
