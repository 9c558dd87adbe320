"""The unimodal fit against scipy's isotonic regression over every split, and its false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from harness.training.selection.turning_point import find_turning_point, unimodal

curves = st.lists(st.floats(-5, 5, allow_nan=False, width=32), min_size=1, max_size=12).map(
    lambda values: np.array(values, dtype=float)
)


@given(curves)
def test_the_fit_is_the_best_of_all_splits_by_scipy(curve):
    best = min(
        sum(((fit - part) ** 2).sum() for fit, part in _parts(curve, split))
        for split in range(len(curve) + 1)
    )  # fmt: skip
    at, fit = unimodal(curve)
    assert ((fit - curve) ** 2).sum() == pytest.approx(best, abs=1e-9)
    assert (np.diff(fit[: at + 1]) <= 1e-9).all() and (np.diff(fit[at:]) >= -1e-9).all()
    assert fit[at] == fit.min()


def _parts(curve, split):
    falling, rising = curve[:split], curve[split:]
    if len(falling):
        yield isotonic_regression(falling, increasing=False).x, falling
    if len(rising):
        yield isotonic_regression(rising, increasing=True).x, rising


def table(seed, curve, items=16, noise=0.05):
    """Items that differ in difficulty on one curve, with independent noise at each checkpoint."""
    rng = np.random.default_rng(seed)
    return (
        np.array(curve) + rng.normal(0, 1, (items, 1)) + rng.normal(0, noise, (items, len(curve)))
    )


def test_a_clear_turn_is_found_at_its_place():
    found = find_turning_point(table(0, [2.0, 1.6, 1.4, 1.3, 1.5, 1.8, 2.2]), resamples=300)
    assert found.rises and found.at == 3 and found.low == found.high == 3 and found.rise > 0.2


def test_a_falling_curve_has_not_turned():
    found = find_turning_point(table(1, [2.0, 1.6, 1.4, 1.3, 1.2, 1.15]), resamples=300)
    assert not found.rises and found.at == 5


def test_a_curve_that_only_rises_turned_at_its_start():
    found = find_turning_point(table(2, [1.0, 1.2, 1.4, 1.9]), resamples=300)
    assert found.rises and found.at == found.back == 0


@pytest.mark.parametrize(
    "shape", [[1.0] * 8, [2.0, 1.5, 1.2, 1.0, 1.0, 1.0, 1.0, 1.0]], ids=["flat", "falls and stays"]
)
def test_noise_is_seldom_taken_for_a_turn(shape):
    """At most one curve in ten without a rise; if the items that chose the turning point also
    judged it, more than half."""
    alarms = sum(find_turning_point(table(seed, shape), resamples=200).rises for seed in range(100))
    assert alarms <= 10


def test_a_small_rise_is_seen_in_most_curves():
    found = [
        find_turning_point(table(seed, [2.0, 1.5, 1.2, 1.0, 1.03, 1.06, 1.09]), resamples=200)
        for seed in range(40)
    ]
    assert sum(turn.rises for turn in found) >= 36


def test_the_margin_goes_back_over_what_cannot_be_told_from_the_turn():
    values = table(3, [2.0, 1.32, 1.31, 1.3, 1.6, 1.9], items=12, noise=0.2)
    near, far = (
        find_turning_point(values, margin=0.0, resamples=200),
        find_turning_point(values, margin=2.0, resamples=200),
    )
    assert near.back == near.at == far.at and far.back < far.at


@pytest.mark.parametrize(("margin", "back"), [(0.7, 1), (0.9, 0)])
def test_the_margin_counts_standard_errors(margin, back):
    """The first checkpoint is worse than the second by 0.8 standard errors."""
    noise = np.array([-1.0, 1.0, -1.0, 1.0])
    error = noise.std(ddof=1) / 2
    values = np.stack([noise + 0.8 * error, np.zeros(4), np.full(4, 9.0)], axis=1)
    found = find_turning_point(values, margin=margin, resamples=20)
    assert (found.at, found.back) == (1, back)


@pytest.mark.parametrize(("deciding", "inside"), [(3, True), (4, False)])
def test_the_range_leaves_one_resample_in_forty_out_on_either_side(deciding, inside):
    """3 of 12 items are all missing from 3.2 % of the resamples, 4 of 12 from 0.8 %. Only those
    resamples turn elsewhere."""
    early, late = [1.0, 0.0, 0.5, 1.0], [1.0, 0.9, 0.5, 0.0]
    values = np.array([[1.0, 1.0, 0.0, -100.0]] * deciding + [early] * (12 - deciding))
    found = find_turning_point(values)
    assert (found.low, found.high) == (1 if inside else 3, 3)
    values = np.array([[1.0, -100.0, 0.0, 1.0]] * deciding + [late] * (12 - deciding))
    found = find_turning_point(values)
    assert (found.low, found.high) == (1, 3 if inside else 1)


@given(st.integers(0, 1000))
def test_equal_arguments_give_equal_turns(seed):
    values = table(seed, [1.0, 0.9, 1.0], items=4)
    assert find_turning_point(values, resamples=20, seed=seed) == find_turning_point(
        values, resamples=20, seed=seed
    )
