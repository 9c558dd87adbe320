"""Intervals of means against textbook values and statsmodels."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import clustered_interval, mean_interval, student_interval, wilson


def test_wilson_equals_the_textbook():
    """Newcombe (1998), table I: 81 of 263, and 0 of 20."""
    found = wilson(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    zero = wilson(0, 20)
    assert (zero.low, zero.high) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 20, 64, 399])
def test_wilson_equals_statsmodels_to_the_last_digit(n):
    """Ours is written out so that an installation without torch needs no statsmodels and pandas."""
    from statsmodels.stats.proportion import proportion_confint

    for k in range(n + 1):
        found = wilson(k, n)
        assert (found.low, found.high) == proportion_confint(k, n, 0.05, method="wilson")


def test_statistics_need_no_package_that_only_tests_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    monkeypatch.setitem(sys.modules, "statsmodels.stats.proportion", None)
    assert mean_interval([0.0, 1.0, 1.0]).n == 3


def test_a_mean_of_rates_gets_wilson_and_of_others_student():
    assert mean_interval([0.0, 1.0, 1.0]) == wilson(2, 3)
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert (found.low, found.high) == pytest.approx((0.446, 4.554), abs=1e-3)
    assert found == student_interval([1.0, 2.0, 3.0, 4.0])
    assert student_interval([0.0, 1.0, 1.0]) != wilson(2, 3)


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_clustered_intervals_equal_statsmodels(items, formats, seed):
    """A mean is a regression on 1; its cluster-robust covariance has the same factor, C/(C−1)."""
    from scipy.stats import t
    from statsmodels.regression.linear_model import OLS

    rng = np.random.default_rng(seed)
    table = rng.normal(0, 1, (items, 1)) + rng.normal(0, 1, (items, formats))
    table[1:][rng.random((items - 1, formats)) < 0.3] = np.nan
    rows, columns = np.nonzero(~np.isnan(table))
    found = clustered_interval(table)
    if found.n < 2:
        assert found.low == found.high == found.value
        return
    values = table[rows, columns]
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": rows})
    half = t.ppf(0.975, found.n - 1) * fit.bse[0]
    assert (found.value, found.low, found.high) == pytest.approx(
        (fit.params[0], fit.params[0] - half, fit.params[0] + half)
    )


def test_answers_to_one_item_are_no_new_items():
    table = np.repeat([[0.0], [1.0], [1.0], [0.0], [1.0], [1.0]], 50, axis=1)
    found, plain = clustered_interval(table), mean_interval(table[:, 0].tolist())
    assert found.n == 6 and found.high - found.low > 0.8 * (plain.high - plain.low)
    with pytest.raises(ValueError, match="nothing"):
        clustered_interval(np.full((2, 2), np.nan))
