"""Format effects: textbook values, statsmodels, and no alarm on noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import best_and_worst, cochran_q, least_share, spread


def test_cochrans_q_equals_the_textbook():
    """Conover (1999, §4.6): three sportsmen predict twelve games; Q = 2.8, p = .2466."""
    rows = ["111", "111", "010", "110", "000", "111", "111", "110", "001", "010", "111", "111"]
    assert cochran_q(np.array([[float(x) for x in row] for row in rows])) == pytest.approx(
        0.2466, abs=5e-5
    )


@given(st.integers(2, 15), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_cochrans_q_equals_statsmodels(items, formats, seed):
    from statsmodels.stats.contingency_tables import cochrans_q

    table = (np.random.default_rng(seed).random((items, formats)) < 0.5).astype(float)
    if (table == table[:, :1]).all():
        assert cochran_q(table) == 1.0
        return
    assert cochran_q(table) == pytest.approx(cochrans_q(table).pvalue)


def test_cochrans_q_keeps_its_level_and_is_for_rates():
    rng = np.random.default_rng(5)
    alarms = sum(
        cochran_q((rng.random((60, 8)) < rng.random((60, 1))).astype(float)) < 0.05
        for _ in range(500)
    )
    assert 0.03 <= alarms / 500 <= 0.075
    with pytest.raises(ValueError, match="0 and 1"):
        cochran_q(np.array([[0.5, 1.0]]))


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


def test_the_winners_curse_stays_on_the_half_that_chose():
    """Twenty equal formats: the mean on the half that did not choose them is unbiased."""
    rng = np.random.default_rng(7)
    found = [
        best_and_worst((rng.random((80, 20)) < 0.5).astype(float), seed=seed) for seed in range(200)
    ]
    assert np.mean([one.best_mean.value for one in found]) == pytest.approx(0.5, abs=0.015)
    assert np.mean([one.worst_mean.value for one in found]) == pytest.approx(0.5, abs=0.015)
    assert found[0].best_mean.n == 40


def test_a_real_winner_is_found():
    table = np.zeros((40, 6))
    table[:, 4] = 1.0
    table[:20, [0, 1, 2, 5]] = 1.0
    found = best_and_worst(table)
    assert (found.best, found.worst, found.best_mean.value, found.worst_mean.value) == (
        4,
        3,
        1.0,
        0.0,
    )
    assert best_and_worst(table[:1]) is None and best_and_worst(np.full((4, 2), np.nan)) is None


@pytest.mark.parametrize("formats", [5, 6, 18])
def test_what_measured_formats_tell_of_others_holds_in_95_of_100(formats):
    """The share of all formats that are no worse than the worst of those drawn."""
    rng = np.random.default_rng(formats)
    for draw in (rng.normal, rng.exponential, lambda size: rng.random(size) ** 9):
        everything = np.sort(draw(size=20_000))
        worst = rng.choice(everything, (1000, formats)).min(1)
        shares = 1 - np.searchsorted(everything, worst) / len(everything)
        assert 0.93 <= (shares >= least_share(formats)).mean() <= 0.97
