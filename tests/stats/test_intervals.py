"""Intervals against textbook values, statsmodels and simulated populations."""

import math
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.coverage import populations, simulate
from harness.stats import (
    difference_interval,
    mean_difference,
    mean_interval,
    rate_interval,
    ratio_interval,
)
from harness.stats.intervals import LEAST_ITEMS, MOST_SKEW, wilson


def ends(found):
    return found.low, found.high


def counted(k, n):
    return [1.0] * k + [0.0] * (n - k)


def test_wilson_equals_the_textbook():
    """Newcombe (1998), table I: 81 of 263, and 0 of 20."""
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize("n", [7, 20, 64, 399])
def test_wilson_equals_statsmodels_but_for_few_events(n):
    """Ours is written out so that an installation without torch needs no statsmodels and pandas."""
    from statsmodels.stats.proportion import proportion_confint

    few = 2 if n <= 50 else 3
    for k in range(n + 1):
        found = wilson(k / n, n)
        reference = proportion_confint(k, n, 0.05, method="wilson")
        if k in range(1, few + 1) or n - k in range(1, few + 1):
            assert found[0] <= reference[0] and found[1] >= reference[1]
        else:
            assert found == pytest.approx(reference, abs=1e-12)


@pytest.mark.parametrize(("k", "n", "low"), [(1, 12, 0.0253 / 12), (3, 100, 0.6187 / 100)])
def test_few_events_get_the_poisson_limit(k, n, low):
    """Half of the 2.5 % quantile of χ² with 2k degrees of freedom, over n; likewise near 1."""
    assert wilson(k / n, n)[0] == pytest.approx(low, rel=1e-3)
    assert wilson(1 - k / n, n)[1] == pytest.approx(1 - low, rel=1e-3)
    assert wilson(4 / 100, 100)[0] > 0.015


def test_statistics_need_no_package_that_only_tests_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    monkeypatch.setitem(sys.modules, "statsmodels.stats.proportion", None)
    assert rate_interval([0.0, 1.0, 1.0]).n == 3


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_rate_has_a_width_and_stays_between_0_and_1(values):
    found = rate_interval([float(value) for value in values])
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.02
    assert ends(found) == pytest.approx(wilson(found.value, len(values)))


@given(st.integers(1, 30), st.integers(1, 8), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_a_rate_over_formats_has_a_width_and_stays_between_0_and_1(items, formats, p, seed):
    rng = np.random.default_rng(seed)
    table = (rng.random((items, formats)) < p).astype(float)
    table[1:][rng.random((items - 1, formats)) < 0.3] = np.nan
    found = rate_interval(table)
    assert found.value == pytest.approx(float(np.nanmean(table)))
    assert 0 <= found.low <= found.value <= found.high <= 1 and found.high > found.low


def test_answers_to_one_item_are_no_new_items():
    """Fifty formats that all answer alike are one; fifty that answer at random are many."""
    column = np.array([[0.0], [1.0], [1.0], [0.0], [1.0], [1.0]] * 10)
    alike, plain = rate_interval(np.repeat(column, 50, axis=1)), rate_interval(column[:, 0])
    assert alike.n == 60 and ends(alike) == pytest.approx(ends(plain), abs=0.01)
    rng = np.random.default_rng(0)
    apart = rate_interval((rng.random((60, 50)) < 2 / 3).astype(float))
    assert apart.high - apart.low < 0.3 * (plain.high - plain.low)
    with pytest.raises(ValueError, match="nothing"):
        rate_interval(np.full((2, 2), np.nan))


def test_the_design_effect_is_believed_in_step_with_the_items_that_have_an_event():
    """Effective n = n + (raw − n)·m∕(m + 10), with m items on the rarer side."""
    for m in (1, 5, 40):
        table = np.zeros((100, 6))
        table[:m, 0] = 1
        items = table.mean(1)
        rate = float(items.mean())
        raw = min(600, rate * (1 - rate) / (float(items.var(ddof=1)) / 100))
        from scipy.stats import t

        wanted = wilson(rate, 100 + (raw - 100) * m / (m + 10), float(t.ppf(0.975, 99)))
        assert ends(rate_interval(table)) == pytest.approx(wanted)


def test_means_of_samples_are_no_whole_items():
    """Four answers to each of 40 items: narrower than one each, and never of width 0."""
    rng = np.random.default_rng(1)
    quarter = rate_interval((rng.integers(0, 5, 40) / 4).tolist())
    low, high = wilson(quarter.value, 40)
    assert quarter.high - quarter.low < 0.9 * (high - low)
    same = rate_interval([0.5] * 40)
    assert same.high - same.low > 0.1


@given(st.integers(LEAST_ITEMS, 90), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_means_over_formats_equal_statsmodels_but_for_skewness(items, formats, seed):
    """A mean is a regression on 1; its cluster-robust covariance has the same factor, C/(C−1)."""
    from scipy.stats import t
    from statsmodels.regression.linear_model import OLS

    rng = np.random.default_rng(seed)
    half = rng.normal(0, 1, (items, 1)) + rng.normal(0, 1, (items, formats))
    half[1:][rng.random((items - 1, formats)) < 0.3] = np.nan
    table = np.concatenate([half, -half])  # symmetric, so that nothing is corrected
    rows, columns = np.nonzero(~np.isnan(table))
    found = mean_interval(table)
    assume(found.n >= LEAST_ITEMS)  # a row may have no value left
    values = table[rows, columns]
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": rows})
    width = t.ppf(0.975, found.n - 1) * fit.bse[0]
    assert ends(found) == pytest.approx((-width, width), rel=1e-6)


def test_a_skewed_mean_reaches_further_to_its_tail():
    values = np.random.default_rng(2).exponential(1, 60)
    found = mean_interval(values)
    assert found.high - found.value > 1.2 * (found.value - found.low)
    mirrored = mean_interval(-values)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_a_mean_of_few_or_extreme_values_has_no_interval():
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, LEAST_ITEMS)
    assert mean_interval(values).low is not None
    assert ends(mean_interval(values[1:])) == (None, None)
    assert "30 are needed" in mean_interval(values[1:]).why
    assert "extreme" in mean_interval([0.0] * 49 + [1.0]).why


@pytest.mark.parametrize(("factor", "withheld"), [(0.98, False), (1.02, True)])
def test_the_limit_of_skewness(factor, withheld):
    """Two values of which k are high have a skewness of (1 − 2p)∕√(p(1 − p))."""
    n = 400
    skew = factor * MOST_SKEW * math.sqrt(n)
    p = 0.5 - 0.5 * skew / math.sqrt(skew**2 + 4)
    k = round(p * n)
    found = mean_interval([1.0] * k + [0.0] * (n - k))
    real = (1 - 2 * k / n) / math.sqrt(k / n * (1 - k / n))
    assert (abs(real) > MOST_SKEW * math.sqrt(n)) == withheld == (found.low is None)


def test_equal_values_have_a_width_where_they_are_bounded():
    """No answer of 50 copies anything: that is a count of 0, not a certainty."""
    assert ends(mean_interval([-0.6] * 50)) == pytest.approx((-0.6, -0.6))
    assert mean_interval([1.0, math.inf] * 20).why == "a value is not finite"
    assert ends(mean_interval([0.0] * 50, 0, 1)) == pytest.approx(wilson(0, 50))
    low, high = ends(mean_interval([0.0] * 50, -1, 1))
    assert low == pytest.approx(-high) and 0.2 < high < 0.3


def test_a_mean_stays_where_its_values_can_be():
    values = [0.0] * 40 + [0.05, 0.1, 0.2, 0.1, 0.3] * 4
    assert mean_interval(values, 0, 1).low >= 0
    assert mean_interval([-1.0, 1.0] * 15, -0.1, 0.1).low == -0.1


@pytest.mark.parametrize("n", [2, 6, 24])
def test_no_change_is_no_gain(n):
    """Unchanged pairs are symmetric about 0, and one gain among many is no gain shown."""
    found = difference_interval([0.0] * n)
    assert found.value == 0 and found.low == pytest.approx(-found.high) and found.high > 0.1
    assert difference_interval([1.0] + [0.0] * (n - 1)).low < 0


def test_differences_equal_bonett_and_price():
    """(x₁ + 1)∕(n + 2) and (x₂ + 1)∕(n + 2) in Wald's interval of a difference."""
    from scipy.stats import t

    n, gained, lost = 50, 12, 4
    p, q = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = t.ppf(0.975, n + 1) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    found = difference_interval([1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost))
    assert ends(found) == pytest.approx((p - q - half, p - q + half))
    assert found.value == pytest.approx((gained - lost) / n)


def test_a_difference_over_formats_counts_one_format_less():
    wide = difference_interval([0.0] * 24)
    narrow = difference_interval(np.zeros((24, 9)))
    assert narrow.high == pytest.approx(wide.high / 3)


def test_a_mean_of_differences_gives_every_group_the_same_weight():
    """Variances add, whatever the sizes; one group is the plain interval."""
    rng = np.random.default_rng(7)
    groups = [rng.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.8, 0.1]) for n in (300, 30)]
    both = mean_difference(groups)
    assert both.value == pytest.approx((groups[0].mean() + groups[1].mean()) / 2)
    assert both.n == 30
    halves = [(found.high - found.low) / 2 for found in map(difference_interval, groups)]
    assert (both.high - both.low) / 2 == pytest.approx(math.hypot(*halves) / 2, rel=0.02)
    assert mean_difference(groups[:1]) == difference_interval(groups[0])


def test_ratio_equals_the_quadratic_of_fieller():
    """Every bound r makes mean(above − r·below) significant at exactly 5 %."""
    from scipy.stats import t

    rng = np.random.default_rng(4)
    below = rng.normal(1, 0.5, (60, 3))
    above = 0.4 * below + rng.normal(0, 0.3, (60, 3))
    found = ratio_interval(above, below)
    for end in ends(found):
        rest = (above - end * below).mean(1)
        statistic = abs(rest.mean()) / (rest.std(ddof=1) / math.sqrt(60))
        assert statistic == pytest.approx(t.ppf(0.975, 59))
    assert found.value == pytest.approx(above.mean() / below.mean())


def test_a_ratio_to_nothing_is_unbounded_or_none():
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, (60, 2))
    assert "unbounded" in ratio_interval(noise + 1, noise[::-1] - noise.mean() + 0.1).why
    assert ratio_interval(np.ones((5, 3)), np.zeros((5, 3))) is None
    assert ratio_interval(np.full((5, 3), np.nan), np.ones((5, 3))) is None
    few = ratio_interval(np.full((5, 3), 0.5), np.ones((5, 3)))
    assert (few.value, few.low) == (0.5, None) and "too few" in few.why


CHECKED = {
    name: next(population for population in populations() if population.name == name)
    for name in (
        "rate of 0.01",
        "rate of 0.02 over 18 formats, items differ by 4 in log-odds",
        "lognormal mean, σ 1.8",
        "mean, a tenth of the items cost 2 nats",
        "difference of rates, 5% lost and 0% gained",
        "share of an excess of 0.52 nats left over 6 formats",
    )
}


@pytest.mark.parametrize("n", [12, 100])
@pytest.mark.parametrize("name", CHECKED)
def test_coverage_of_the_hardest_populations(name, n):
    """All of them and more sets: tests/slow/test_coverage.py."""
    assert simulate(CHECKED[name], n, 400).covered >= 0.915
