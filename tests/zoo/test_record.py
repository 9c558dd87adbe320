"""The record that docs/models.md is written from."""

from __future__ import annotations

from tests.zoo.models import names
from tests.zoo.record import LEFT_OUT, REFUSED, RIGHT, STEPS, read_record


def test_each_architecture_has_been_through_each_step_and_none_is_wrong():
    _, outcomes = read_record()
    assert sorted(outcomes) == names()
    for name, outcome in outcomes.items():
        assert outcome.steps.keys() == STEPS.keys(), name
        kinds = {ended.partition(":")[0] for ended in outcome.steps.values()}
        assert kinds <= {RIGHT, REFUSED, LEFT_OUT}, name
