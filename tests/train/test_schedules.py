"""Schedules against transformers' own, step by step."""

import pytest
import torch
from transformers import get_scheduler

from harness.train.schedules import Schedule


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_without_warm_up_it_equals_transformers(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=0, num_training_steps=40)
    ours = Schedule(name, 40)
    for step in range(40):
        assert ours.factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_warm_up_rises_to_the_peak_and_never_starts_at_zero():
    schedule = Schedule("cosine", 100, 10)
    rising = [schedule.factor(step) for step in range(11)]
    assert rising == sorted(rising) and rising[0] > 0 and rising[10] == 1.0


def test_summed_is_the_sum():
    schedule = Schedule("linear", 50, 5)
    assert schedule.summed(50) == pytest.approx(sum(schedule.factor(step) for step in range(50)))
