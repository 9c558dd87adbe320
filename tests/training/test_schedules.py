"""Schedules against transformers' own, step by step, and the properties that every one has."""

import itertools
import math
from typing import get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import get_scheduler

from harness.training import schedules
from harness.training.config import ScheduleConfig, TrainConfig, parse_config
from harness.training.config.reference import reference
from harness.training.schedules import Schedule

NAMES = get_args(schedules.ScheduleName)


def theirs(name, warmup, total, **kwargs):
    """The factors of transformers' scheduler, from step 0."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=total,
        scheduler_specific_kwargs=kwargs,
    )
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize(
    ("name", "settings", "peer", "kwargs"),
    [
        ("constant", {}, "constant_with_warmup", {}),
        ("linear", {}, "linear", {}),
        ("cosine", {}, "cosine", {}),
        ("cosine_with_restarts", {"num_cycles": 3}, "cosine_with_restarts", {"num_cycles": 3}),
        (
            "warmup_stable_decay",
            {},
            "warmup_stable_decay",
            {"num_decay_steps": 10, "decay_type": "1-sqrt"},
        ),
    ],
)
def test_it_equals_transformers(name, settings, peer, kwargs, warmup):
    """Ours never starts at 0: its step s with w warm-up steps is their step s + 1 with w + 1 of
    them. Without warm-up both are equal."""
    ours = Schedule(
        ScheduleConfig(
            lr_scheduler_type=name,
            warmup_steps=warmup,
            warmup_ratio=0.0,
            decay_ratio=0.25,
            **settings,
        ),
        40,
    )
    shift = 1 if warmup else 0
    expected = theirs(peer, warmup + shift, 40 + shift, **kwargs)[shift:]
    assert [ours.factor(step) for step in range(40)] == pytest.approx(expected, abs=1e-9)


def test_a_floor_is_that_of_transformers():
    """warmup_stable_decay has one under the same name; its warm-up has a floor that ours lacks, so
    there is none here."""
    ours = Schedule(
        ScheduleConfig(
            lr_scheduler_type="warmup_stable_decay",
            warmup_ratio=0.0,
            decay_ratio=0.5,
            min_lr_ratio=0.1,
        ),
        20,
    )
    assert [ours.factor(step) for step in range(20)] == pytest.approx(
        theirs(
            "warmup_stable_decay", 0, 20, num_decay_steps=10, decay_type="1-sqrt", min_lr_ratio=0.1
        )
    )


@st.composite
def configs(draw):
    places = sorted(draw(st.lists(st.floats(0.05, 0.95), max_size=3)))
    heights = draw(st.lists(st.floats(0, 1), min_size=len(places) + 2, max_size=len(places) + 2))
    name = draw(st.sampled_from(NAMES))
    return ScheduleConfig(
        lr_scheduler_type=name,
        warmup_ratio=draw(st.floats(0, 0.5)),
        min_lr_ratio=draw(st.floats(0, 1)),
        num_cycles=draw(st.integers(1, 4)),
        decay_ratio=draw(st.floats(0.05, 1)),
        sigmoid_shape=draw(st.sampled_from(["fall", "rise", "bump"])),
        points=tuple(zip([0.0, *places, 1.0], heights, strict=True)) if name == "piecewise" else (),
    )


@given(configs(), st.integers(1, 200))
def test_every_factor_lies_between_0_and_1(config, total):
    schedule = Schedule(config, total)
    factors = [schedule.factor(step) for step in range(total)]
    assert all(0.0 <= factor <= 1.0 + 1e-12 for factor in factors)
    assert schedule.summed(total) == pytest.approx(sum(factors), rel=1e-12, abs=1e-12)
    assert schedule.summed(total) == pytest.approx(
        schedule.summed(total // 2) + sum(factors[total // 2 :]), rel=1e-9, abs=1e-9
    )


@settings(max_examples=40)
@given(configs())
def test_smooth_shapes_have_no_jumps(config):
    """With ten times the steps the largest change is about a tenth, as only a continuous curve has
    it. Restarts and doubled points jump on purpose."""
    if (
        config.lr_scheduler_type in ("cosine_with_restarts", "piecewise")
        or config.lr_scheduler_type == "warmup_stable_decay"
    ):
        return
    assume(
        not 0 < 400 * config.warmup_ratio < 5
    )  # a rise of one or two steps is a jump, and has to be
    largest = []
    for total in (400, 4000):
        schedule = Schedule(config, total)
        factors = [schedule.factor(step) for step in range(total)]
        largest.append(max(abs(b - a) for a, b in itertools.pairwise(factors)))
    assert largest[1] <= 0.2 * largest[0] + 1e-6


@given(configs(), st.integers(2, 200))
def test_parts_are_monotone(config, total):
    schedule = Schedule(config, total)
    factors = [schedule.factor(step) for step in range(total)]
    rise, rest = factors[: schedule.warmup], factors[schedule.warmup :]
    falling = all(b <= a + 1e-12 for a, b in itertools.pairwise(rest))
    if config.lr_scheduler_type in ("constant", "linear", "cosine", "warmup_stable_decay"):
        assert rise == sorted(rise) and falling
    if config.lr_scheduler_type == "sigmoid" and config.sigmoid_shape == "rise":
        assert factors == sorted(factors)
    if config.lr_scheduler_type == "sigmoid" and config.sigmoid_shape == "fall":
        assert falling


def made(name, total, **settings):
    return Schedule(ScheduleConfig(lr_scheduler_type=name, warmup_ratio=0.0, **settings), total)


def test_a_sigmoid_passes_half_way_in_the_middle_and_rise_mirrors_fall():
    fall = made("sigmoid", 10000)
    assert fall.factor(4999) == pytest.approx(0.5, abs=0.02)
    between = sum(0.05 < fall.factor(step) < 0.95 for step in range(10000))
    assert between / 10000 == pytest.approx(0.56, abs=0.01)
    rise = made("sigmoid", 10000, sigmoid_shape="rise")
    assert [rise.factor(s) + fall.factor(s) for s in range(10000)] == pytest.approx([1.0] * 10000)


def test_a_bump_is_slow_fast_slow():
    """Σ rate of a bump is itself a sigmoid: the integral of sech²."""
    bump = made("sigmoid", 4000, sigmoid_shape="bump")
    assert max(bump.factor(step) for step in range(4000)) == pytest.approx(1.0, abs=1e-4)
    for share in (0.25, 0.5, 0.75, 1.0):
        integral = (2 / 10) * (math.tanh(5 * (share - 0.5)) - math.tanh(5 * -0.5))
        assert bump.summed(round(4000 * share)) / 4000 == pytest.approx(integral, abs=1e-3)


def test_piecewise_joins_points_and_jumps_where_two_stand_together():
    """Train high, then continue at a tenth."""
    schedule = made("piecewise", 100, points=((0.0, 1.0), (0.5, 1.0), (0.5, 0.1), (1.0, 0.1)))
    assert [round(schedule.factor(step), 9) for step in (0, 49, 50, 99)] == [1.0, 1.0, 0.1, 0.1]
    slope = made("piecewise", 100, points=((0.0, 0.0), (1.0, 1.0)))
    assert [slope.factor(step) for step in range(100)] == pytest.approx(
        [(step + 0.5) / 100 for step in range(100)]
    )


def test_warm_up_rises_to_the_peak_and_never_starts_at_zero():
    schedule = made("cosine", 100, warmup_steps=10)
    rising = [schedule.factor(step) for step in range(11)]
    assert rising == sorted(rising) and rising[0] > 0 and rising[10] == 1.0


def test_steps_of_warm_up_beat_the_ratio():
    assert Schedule(ScheduleConfig(warmup_steps=7, warmup_ratio=0.5), 100).warmup == 7
    assert Schedule(ScheduleConfig(warmup_ratio=0.5), 100).warmup == 50


def test_a_schedule_is_added_in_one_place(monkeypatch):
    """Registering a function is enough for settings and documentation."""
    monkeypatch.setattr(schedules, "_SHAPES", dict(schedules._SHAPES))

    @schedules.shape()
    def halved(schedule: Schedule, step: int) -> float:
        return 0.5

    config = ScheduleConfig(lr_scheduler_type="halved", warmup_ratio=0.0, min_lr_ratio=0.2)
    assert Schedule(config, 10).factor(3) == pytest.approx(0.6)
    table = TrainConfig().as_dict()
    for name in NAMES:
        if name != "piecewise":
            table["schedule"]["lr_scheduler_type"] = name
            assert parse_config(table).schedule.lr_scheduler_type == name
    assert f"| `lr_scheduler_type` | {', '.join(NAMES)} |" in reference()
