"""Measures over formats, by hand and by their bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.robustness import (
    across,
    consistency,
    performance_sensitivity,
    sensitivity,
    top,
)

RATES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_by_hand():
    found = across([0.9, 0.5, 0.7])
    assert (found.max, found.min) == (0.9, 0.5)
    assert (found.avg, found.spread, found.sat, found.cps) == pytest.approx((0.7, 0.4, 0.8, 0.72))
    assert performance_sensitivity([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0]]) == pytest.approx(
        (2 / 3 + 0) / 2
    )
    assert consistency([["a", "b", "a", "a"], ["c", "c"]]) == pytest.approx((3 / 6 + 1) / 2)
    assert top([0.4, 0.5, 0.6], 0.5) == pytest.approx(2 / 3)


def test_a_wrong_answer_given_everywhere_is_consistent():
    assert consistency([[2, 2, 2]]) == 1.0 and performance_sensitivity([[0.0, 0.0, 0.0]]) == 0.0


def test_sensitivity_is_the_entropy_of_all_formats_together():
    assert sensitivity([[[1.0, 0.0], [0.0, 1.0]]]) == pytest.approx(1.0)
    assert sensitivity([[[1.0, 0.0], [1.0, 0.0]]]) == 0.0
    p = [0.75, 0.25, 0.0, 0.0]
    assert sensitivity([[[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]]) == pytest.approx(
        -sum(x * math.log(x) for x in p if x) / math.log(4)
    )
    with pytest.raises(ValueError, match="shorter"):
        sensitivity([[[0.5, 0.5], [1.0]]])


def test_nothing_is_not_zero():
    assert (
        performance_sensitivity([[1.0]]) is None
        and consistency([[1]]) is None
        and sensitivity([[]]) is None
        and top([], 0.5) is None
    )
    with pytest.raises(ValueError, match="no format"):
        across([])


@given(RATES)
def test_bounds(means):
    found = across(means)
    assert found.min - 1e-12 <= found.avg <= found.max + 1e-12
    assert -1e-12 <= found.cps <= found.max + 1e-12 and -1e-12 <= found.sat <= 1 + 1e-12


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=8), min_size=1, max_size=8)
)
def test_pss_of_rates_is_what_consistency_lacks(values):
    """For right and wrong, a pair of formats either agrees or differs by one."""
    assert performance_sensitivity(values) == pytest.approx(1 - consistency(values))
