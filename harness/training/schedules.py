"""Learning-rate schedules: the [schedule] settings and, for each name, a function of the step.

To add a schedule, write one function here and decorate it with ``shape``; if it has a parameter,
add a field to ``ScheduleConfig``. Settings file, flags, help and documentation are derived from
these.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Lt


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate of a run of ``total`` steps: ``factor(step)`` for steps 0 … total − 1.

    The rate rises over the warm-up, then follows its shape over the remaining steps, as in
    transformers. One difference: no step of the warm-up has the rate 0. Shapes over the whole run
    have the rise as a ceiling instead.
    """

    config: ScheduleConfig
    total: int

    @property
    def warmup(self) -> int:
        """Steps of the rise."""
        config = self.config
        return min(self.total, config.warmup_steps or round(config.warmup_ratio * self.total))

    def factor(self, step: int) -> float:
        """The fraction of the peak rate, in [0, 1], that step number ``step`` (from 0) takes."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        shape = _SHAPES[self.config.lr_scheduler_type]
        if step < self.warmup and not shape.whole_run:
            return rise
        factor = shape.function(self, step)
        if shape.has_floor:
            factor = self.config.min_lr_ratio + (1.0 - self.config.min_lr_ratio) * factor
        return min(rise, factor)

    def summed(self, steps: int) -> float:
        """Σ factor over the first ``steps`` steps; times the peak rate it is Σ learning rate."""
        return math.fsum(self.factor(step) for step in range(steps))

    def after_warmup(self, step: int) -> float:
        """Where ``step`` is between the end of the warm-up (0) and the end of the run (1)."""
        return (step - self.warmup) / max(1, self.total - self.warmup)

    def in_run(self, step: int) -> float:
        """Where the middle of ``step`` is between the start (0) and the end (1) of the run."""
        return (step + 0.5) / self.total


class _Shape(NamedTuple):
    function: Callable[[Schedule, int], float]
    whole_run: bool
    has_floor: bool


_SHAPES: dict[str, _Shape] = {}


def shape(*, whole_run: bool = False, has_floor: bool = True) -> Callable[[_Function], _Function]:
    """Register a function of (schedule, step), with values in [0, 1], under its own name.

    ``whole_run``: it is drawn over the warm-up too. ``has_floor``: min_lr_ratio applies to it.
    """

    def register(function: _Function) -> _Function:
        _SHAPES[function.__name__] = _Shape(function, whole_run, has_floor)
        return function

    return register


_Function = Callable[[Schedule, int], float]


@shape(has_floor=False)
def constant(_schedule: Schedule, _step: int) -> float:
    """The peak rate."""
    return 1.0


@shape()
def linear(schedule: Schedule, step: int) -> float:
    """A straight line down to 0."""
    return 1.0 - schedule.after_warmup(step)


@shape()
def cosine(schedule: Schedule, step: int) -> float:
    """Half a cosine down to 0."""
    return _half_cosine(schedule.after_warmup(step))


@shape()
def cosine_with_restarts(schedule: Schedule, step: int) -> float:
    """``num_cycles`` descents (SGDR, arXiv 1608.03983)."""
    return _half_cosine((schedule.config.num_cycles * schedule.after_warmup(step)) % 1.0)


@shape()
def warmup_stable_decay(schedule: Schedule, step: int) -> float:
    """The peak rate, and over the last ``decay_ratio`` of the steps 1 − √ (arXiv 2405.18392)."""
    decay = max(1, round(schedule.config.decay_ratio * schedule.total))
    begin = max(schedule.warmup, schedule.total - decay)
    if step < begin:
        return 1.0
    return 1.0 - math.sqrt((step - begin) / max(1, schedule.total - begin))


@shape(whole_run=True)
def sigmoid(schedule: Schedule, step: int) -> float:
    """A logistic curve that reaches 0 and 1 at the ends, or its slope: Σ rate slow, fast, slow."""
    at = _logistic(10.0 * (schedule.in_run(step) - 0.5))
    if schedule.config.sigmoid_shape == "bump":
        return 4.0 * at * (1.0 - at)
    low, high = _logistic(-5.0), _logistic(5.0)
    risen = (at - low) / (high - low)
    return risen if schedule.config.sigmoid_shape == "rise" else 1.0 - risen


@shape(whole_run=True, has_floor=False)
def piecewise(schedule: Schedule, step: int) -> float:
    """Straight lines through ``points``; of two at one place the later counts from there on."""
    points, share = schedule.config.points, schedule.in_run(step)
    after = min(bisect_right([place for place, _ in points], share), len(points) - 1)
    (x0, y0), (x1, y1) = points[after - 1], points[after]
    return y1 if x1 == x0 else y0 + (y1 - y0) * (share - x0) / (x1 - x0)


def _half_cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * share))


def _logistic(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


if TYPE_CHECKING:
    ScheduleName = str
else:
    ScheduleName = Literal[tuple(_SHAPES)]
_Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate changes over the run."""

    lr_scheduler_type: ScheduleName = "cosine"
    """The curve after the warm-up, or over the whole run for sigmoid and piecewise."""
    warmup_ratio: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Share of the steps in which the rate rises. For sigmoid and piecewise it is a ceiling."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Steps of the rise; overrides warmup_ratio. 0: take the ratio."""
    min_lr_ratio: _Share = 0.0
    """The rate falls to this share of its peak instead of 0. Not for constant and piecewise."""
    num_cycles: Annotated[int, Ge(1)] = 1
    """Descents of cosine_with_restarts."""
    decay_ratio: Annotated[float, Gt(0), Le(1)] = 0.2
    """Share of the steps, at the end, in which warmup_stable_decay falls."""
    sigmoid_shape: Literal["fall", "rise", "bump"] = "fall"
    """fall: high, then low. rise: low, then high. bump: slow, fast, slow."""
    points: tuple[tuple[_Share, _Share], ...] = ()
    """piecewise: [share of the run, share of the peak rate] pairs joined by straight lines. Two at
    one place make a jump."""

    def problems(self) -> list[str]:
        """Points that make no curve, or have no effect."""
        places = [place for place, _ in self.points]
        if self.lr_scheduler_type != "piecewise":
            unused = 'points: have no effect unless lr_scheduler_type = "piecewise"'
            return [unused] if places else []
        if len(places) < 2 or places[0] != 0 or places[-1] != 1 or places != sorted(places):
            given = [list(point) for point in self.points]
            return [f"points = {given}: piecewise needs points that go from 0 to 1 in order"]
        return []
