"""Differences within strata, and how well a value separates rows from controls: level and power."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, mannwhitneyu

from harness.stats.strata import (
    LEAST,
    adjusted,
    auc,
    found_rate,
    strata,
    stratified_difference,
)


def pool(rng, rows, controls, kinds=4):
    """Kinds, lengths and a random choice of rows, as a random split of one pool gives them."""
    n = rows + controls
    trained = np.zeros(n, bool)
    trained[rng.permutation(n)[:rows]] = True
    return rng.integers(0, kinds, n), rng.lognormal(3, 1, n), trained


def difference(kinds, lengths, trained, values, **options):
    labels = strata([f"kind {k}" for k in kinds], lengths.tolist(), trained.tolist())
    return stratified_difference(values.tolist(), labels, trained.tolist(), **options)


def coverage(rows, controls, gain, values, sets=300, **options):
    """How often the interval holds the truth."""
    rng = np.random.default_rng(rows + controls)
    hits = 0
    for _ in range(sets):
        kinds, lengths, trained = pool(rng, rows, controls)
        found = difference(
            kinds, lengths, trained, values(rng, kinds, lengths) + gain * trained, **options
        )
        hits += found.low <= gain <= found.high
    return hits / sets


def logprobs(rng, kinds, lengths):
    return -2 - 0.5 * kinds + 0.2 * np.log(lengths) + rng.normal(0, 0.5, len(kinds))


def skewed(rng, kinds, lengths):
    return 0.3 * rng.lognormal(0, 1.2, len(kinds)) + 0.2 * kinds


# 300 sets: the standard error of a coverage of .95 is .013.
@pytest.mark.parametrize("values", [logprobs, skewed])
@pytest.mark.parametrize(("rows", "controls"), [(12, 100), (100, 12), (24, 24), (200, 200)])
def test_the_interval_holds_the_truth_whichever_side_is_small(rows, controls, values):
    least = 0.91 if values is logprobs or min(rows, controls) > 12 else 0.84
    assert least <= coverage(rows, controls, 0.0, values)
    assert least <= coverage(rows, controls, 0.4, values) <= 1.0


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.5, 0.95])
def test_the_interval_of_rates_holds_the_truth(rate):
    def passed(rng, kinds, lengths):
        return (rng.random(len(kinds)) < rate).astype(float)

    for rows, controls in ((24, 24), (200, 100)):
        assert coverage(rows, controls, 0.0, passed, share=True) >= 0.92


def test_a_planted_gain_is_found_and_none_is_not():
    """At 100 rows and 100 controls the interval leaves 0 in nearly all sets, or in one of 20."""
    rng = np.random.default_rng(5)
    beyond = {0.0: 0, 0.3: 0}
    for gain in beyond:
        for _ in range(200):
            kinds, lengths, trained = pool(rng, 100, 100)
            values = logprobs(rng, kinds, lengths) + gain * trained
            beyond[gain] += difference(kinds, lengths, trained, values).low > 0
    assert beyond[0.0] <= 12 and beyond[0.3] >= 180


def test_strata_take_the_difference_of_kinds_away():
    """Where rows are mostly of the likely kind, plain means differ by .6 and the strata by 0."""
    rng = np.random.default_rng(1)
    kinds = np.array([0] * 90 + [1] * 30 + [0] * 30 + [1] * 90)
    trained = np.arange(240) < 120
    values = -1.2 * kinds + rng.normal(0, 0.1, 240)
    found = difference(kinds, np.ones(240), trained, values)
    assert found.low <= 0 <= found.high and found.high - found.low < 0.1
    plain = stratified_difference(values.tolist(), [0] * 240, trained.tolist())
    assert plain.value == pytest.approx(0.6, abs=0.05)
    assert found.train == pytest.approx(plain.train) and found.train - found.null == found.value


def test_a_stratum_without_controls_is_left_out():
    found = stratified_difference([1.0, 3.0, 0.0, 2.0, 9.0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 1])
    assert (found.value, found.n_train, found.n_null) == (1.0, 2, 2)
    assert stratified_difference([1.0, 2.0], [0, 1], [True, False]) is None
    alone = stratified_difference([1.0, 2.0], [0, 0], [True, False])
    assert (alone.value, alone.low, alone.high) == (-1.0, None, None)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_shares_have_an_interval(value):
    found = stratified_difference([value] * 40, [0] * 40, [True] * 20 + [False] * 20, share=True)
    assert found.value == 0 and found.low < -0.1 and found.high > 0.1


def adjusted_and_plain(rng, rows, controls, gain, slope=1.0, heavy=False):
    """The differences with and without two covariates; the first explains ``slope``² of the
    variance next to 1 of noise, the second nothing."""
    kinds, lengths, trained = pool(rng, rows, controls)
    traits = rng.normal(0, 1, (rows + controls, 2))
    noise = rng.standard_t(3, rows + controls) if heavy else rng.normal(0, 1, rows + controls)
    values = -0.5 * kinds + slope * traits[:, 0] + noise + gain * trained
    labels = strata([f"kind {k}" for k in kinds], lengths.tolist(), trained.tolist())
    moved = adjusted(values.tolist(), traits.tolist(), labels, trained.tolist())
    return (
        stratified_difference(moved, labels, trained.tolist()),
        stratified_difference(values.tolist(), labels, trained.tolist()),
    )


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(("rows", "controls"), [(24, 24), (24, 100), (100, 24), (243, 200)])
@pytest.mark.parametrize("gain", [0.0, 0.4])
def test_the_interval_of_adjusted_values_holds_the_truth(rows, controls, gain, heavy):
    rng = np.random.default_rng(rows + controls)
    found = [adjusted_and_plain(rng, rows, controls, gain, heavy=heavy)[0] for _ in range(300)]
    assert sum(each.low <= gain <= each.high for each in found) / 300 >= 0.92


@pytest.mark.parametrize(("slope", "least", "most"), [(1.0, 0.65, 0.76), (0.0, 0.97, 1.03)])
def test_what_a_covariate_explains_is_no_noise(slope, least, most):
    """Half of the variance explained: 1/√2 of the width. Nothing explained: the same width."""
    rng = np.random.default_rng(2)
    pairs = [adjusted_and_plain(rng, 243, 200, 0.0, slope) for _ in range(40)]
    widths = [np.mean([each[at].high - each[at].low for each in pairs]) for at in (0, 1)]
    assert least <= widths[0] / widths[1] <= most


def test_the_mean_of_the_trained_rows_stays_theirs():
    found, plain = adjusted_and_plain(np.random.default_rng(3), 60, 60, 1.0)
    assert found.train == pytest.approx(plain.train) and found.null != pytest.approx(plain.null)


def test_a_gain_of_the_rows_is_not_taken_for_the_effect_of_a_covariate():
    """Rows have the trait more often than controls, and gained 1: the slope is of either side."""
    trained = [True] * 60 + [False] * 60
    traits = [[1.0]] * 45 + [[0.0]] * 15 + [[1.0]] * 15 + [[0.0]] * 45
    values = [float(ours) for ours in trained]
    assert adjusted(values, traits, [0] * 120, trained) == pytest.approx(values)


def test_without_enough_items_or_any_variance_nothing_is_adjusted():
    """Two covariates need 40 values beyond the means of both sides: 42 in all."""
    rng = np.random.default_rng(4)
    for size, enough in ((41, False), (42, True)):
        values, traits = rng.normal(0, 1, size).tolist(), rng.normal(0, 1, (size, 2)).tolist()
        sides = [True] * 20 + [False] * (size - 20)
        assert (adjusted(values, traits, [0] * size, sides) != values) == enough
    values, trained = rng.normal(0, 1, 30).tolist(), [True] * 15 + [False] * 15
    equal = [[2.0, 3.0]] * 30
    assert adjusted(values * 4, equal * 4, [0] * 120, trained * 4) == pytest.approx(values * 4)
    assert adjusted([], [], [], []) == []


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.booleans()),
        min_size=1,
        max_size=120,
    )
)
def test_every_stratum_has_enough_of_both_where_there_are(items):
    kinds, lengths, trained = (list(part) for part in zip(*items, strict=True))
    labels = strata(kinds, lengths, trained)
    rows = [sum(1 for at, t in zip(labels, trained, strict=True) if at == n and t) for n in labels]
    other = [
        sum(1 for at, t in zip(labels, trained, strict=True) if at == n and not t) for n in labels
    ]
    if min(sum(trained), len(trained) - sum(trained)) >= LEAST:
        assert min(*rows, *other) >= LEAST
    else:
        assert len(set(labels)) == 1


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    st.lists(st.integers(-5, 5), min_size=1, max_size=60),
)
def test_the_area_is_scipys_and_inside_its_interval(train, controls):
    found = auc(train, controls)
    expected = mannwhitneyu(train, controls).statistic / (len(train) * len(controls))
    assert found.value == pytest.approx(expected)
    assert 0 <= found.low <= found.value <= found.high <= 1 and found.low < found.high


def test_the_area_is_a_half_without_memory_and_its_interval_holds_it():
    rng = np.random.default_rng(3)
    found = [auc(rng.normal(0, 1, 60).tolist(), rng.normal(0, 1, 120).tolist()) for _ in range(400)]
    assert np.mean([each.value for each in found]) == pytest.approx(0.5, abs=0.01)
    assert 0.92 <= np.mean([each.low <= 0.5 <= each.high for each in found]) <= 0.98
    planted = auc((rng.normal(0, 1, 60) + 1).tolist(), rng.normal(0, 1, 120).tolist())
    assert planted.low > 0.6


@pytest.mark.parametrize("controls", [99, 150, 200, 400])
def test_untrained_rows_are_found_in_at_most_one_of_a_hundred(controls):
    rng = np.random.default_rng(controls)
    rates = [
        found_rate(rng.normal(0, 1, 100).tolist(), rng.normal(0, 1, controls).tolist()).value
        for _ in range(1500)
    ]
    assert 0.004 <= np.mean(rates) <= 0.0115  # standard error .0004


def test_the_found_rate_has_the_exact_interval_of_its_count():
    controls = [float(n) for n in range(200)]
    found = found_rate([500.0] * 30 + [198.5] * 5 + [-1.0] * 15, controls)
    exact = binomtest(35, 50).proportion_ci(0.95, "exact")
    assert (found.value, found.low, found.high) == pytest.approx((0.7, exact.low, exact.high))
    assert found_rate([198.0], controls).value == 0.0  # as high as the second control, not above
    assert found_rate([1.0], controls[:98]) is None
    assert found_rate([1e9] * 4, controls).high == 1.0 and found_rate([-1.0], controls).low == 0.0
