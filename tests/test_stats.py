"""Statistics against textbook values and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import holm, mean_interval, noninferiority, paired_bootstrap, spread, two_way_bootstrap, visible_difference, wilson


def test_wilson_equals_the_textbook():
    """Newcombe (1998), table I: 81 of 263, and 0 of 20."""
    found = wilson(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    zero = wilson(0, 20)
    assert (zero.low, zero.high) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_a_mean_of_rates_gets_wilson_and_of_others_student():
    assert mean_interval([0.0, 1.0, 1.0]) == wilson(2, 3)
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert (found.low, found.high) == pytest.approx((0.446, 4.554), abs=1e-3)


def test_holm_equals_its_definition():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_equals_statsmodels(p_values):
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_the_interval_of_a_mean_covers():
    rng = np.random.default_rng(1)
    hits = sum(found.low <= 0.3 <= found.high for found in (mean_interval((rng.random(60) < 0.3).astype(float).tolist()) for _ in range(500)))
    assert 0.92 <= hits / 500 <= 0.98


def test_the_two_way_bootstrap_covers_for_formats_never_seen():
    """Items and formats both drawn from their populations; intervals must cover the grand mean in about 95 %."""
    rng = np.random.default_rng(2)
    hits = 0
    for seed in range(200):
        table = 0.5 + rng.normal(0, 0.3, (40, 1)) + rng.normal(0, 0.2, (1, 14)) + rng.normal(0, 0.4, (40, 14))
        found = two_way_bootstrap(lambda t: float(t.mean()), table, seed=seed, draws=300)
        hits += found.low <= 0.5 <= found.high
    assert 0.90 <= hits / 200 <= 0.995


def test_noninferiority_is_silent_without_a_loss_and_sure_with_one():
    rng = np.random.default_rng(3)
    assert noninferiority([0.0] * 50, 0.0) == 1.0
    assert noninferiority([-1.0] * 30 + [0.0] * 10, 0.05) < 1e-6
    false_alarms = sum(noninferiority(rng.choice([-1.0, 0.0, 1.0], 100, p=[0.1, 0.8, 0.1]).tolist(), 0.0) < 0.05 for _ in range(400))
    assert false_alarms / 400 <= 0.06


def test_spread_of_noise_lies_within_its_null():
    rng = np.random.default_rng(4)
    noise = (rng.random((100, 10)) < 0.5).astype(float)
    found = spread(noise)
    assert found.null_low <= found.spread <= found.null_high * 1.1
    assert found.p > 0.01
    assert found.null_high > 0.1, "noise alone spreads by more than ten points"
    real = noise.copy()
    real[:, 0] = 1.0
    assert spread(real).p < 0.01


def test_items_missing_somewhere_are_left_out_of_the_spread():
    table = np.array([[1.0, 0.0], [np.nan, 1.0], [1.0, 0.0]])
    assert spread(table).n == 2
    with pytest.raises(ValueError, match="every format"):
        spread(np.array([[np.nan, 1.0]]))


def test_paired_bootstrap_is_seeded():
    assert paired_bootstrap([0.1, 0.2, -0.1], seed=5) == paired_bootstrap([0.1, 0.2, -0.1], seed=5)


def test_a_hundred_items_see_about_nine_points():
    assert visible_difference(100, rate=0.9, correlation=0.5) == pytest.approx(0.075, abs=0.02)
