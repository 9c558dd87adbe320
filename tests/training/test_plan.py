"""The plan of a run: every step has tokens, and every planned pair is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.training.config import TrainConfig
from harness.training.data.examples import make_plan
from harness.training.data.mixing import RowSet


def plan_of(plain, formats=5, weight=0.5, *, mixing="all", seed=0, epochs=4.0, batch=2, steps=0):
    """``plain`` says for each row whether it is a plain text."""
    config = TrainConfig(seed=seed)
    config = replace(
        config,
        formats=replace(config.formats, mixing=mixing),
        optimisation=replace(
            config.optimisation,
            per_device_train_batch_size=batch,
            num_train_epochs=epochs,
            max_steps=steps,
        ),
    )
    cache = SimpleNamespace(
        conversations=[SimpleNamespace(id=f"r{row}", plain=text) for row, text in enumerate(plain)],
        formats=[SimpleNamespace(id=f"f{at}", family=f"f{at}") for at in range(formats)],
        sets=(RowSet.weighted(range(len(plain)), weight),),
    )
    return make_plan(config, cache)


@given(
    st.lists(st.booleans(), min_size=1, max_size=9),
    st.integers(1, 5),
    st.floats(0.2, 2.5),
    st.sampled_from(["all", "balanced"]),
    st.integers(0, 20),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_whole_epochs_train_every_planned_pair_once(plain, formats, weight, mixing, seed, n, size):
    plan = plan_of(plain, formats, weight, mixing=mixing, seed=seed, epochs=n, batch=size)
    steps = [plan.step(number) for number in range(plan.total_steps)]
    assert all(steps), "no step is empty"
    assert len(plan.epochs) == n
    assert Counter(pair for step in steps for pair in step) == Counter(
        pair for epoch in plan.epochs for pair in epoch
    )
    assert plan.epoch_at(plan.total_steps) == n
    epochs = [plan.epoch_at(step) for step in range(plan.total_steps + 1)]
    assert epochs == sorted(epochs)


@pytest.mark.parametrize("seed", range(6))
def test_plain_texts_of_a_weighted_set_leave_no_step_empty(seed):
    """With mixing = all, an epoch with more plain texts has fewer pairs."""
    plan = plan_of([row % 2 == 0 for row in range(8)], seed=seed)
    sizes = [len(plan.step(number)) for number in range(plan.total_steps)]
    assert min(sizes) > 0 and sum(sizes) == sum(map(len, plan.epochs))


@given(
    st.integers(1, 9), st.floats(0.05, 6), st.integers(1, 5), st.integers(0, 3), st.integers(0, 30)
)
def test_epochs_of_one_size_have_as_many_steps_as_ever(rows, epochs, batch, seed, steps):
    plan = plan_of([False] * rows, 3, 1.0, seed=seed, epochs=epochs, batch=batch, steps=steps)
    each = -(-rows * 3 // batch)
    assert plan.total_steps == (steps or max(1, round(each * epochs)))
    assert all(plan.step(number) for number in range(plan.total_steps))
    assert [plan.epoch_at(step) for step in range(plan.total_steps + 1)] == [
        step / each for step in range(plan.total_steps + 1)
    ]


def test_a_number_of_steps_may_end_inside_any_epoch():
    plan = plan_of([True, False, True, False], weight=0.5, steps=11)
    assert plan.total_steps == 11
    assert all(plan.step(number) for number in range(11))
