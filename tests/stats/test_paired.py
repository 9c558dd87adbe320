"""Paired tests against textbook values, statsmodels and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats import (
    able_to_fail,
    holm,
    least_p,
    loss_test,
    mcnemar,
    minimum_detectable_effect,
    paired_test,
)


def test_mcnemar_equals_the_textbook():
    """Agresti (2013, §11.1): of 1600 people asked twice, 150 and 86 changed; z² = 17.36.

    And 1 against 9 by hand: 2 · 11 / 2¹⁰.
    """
    from scipy.stats import chi2

    before = [1.0] * 794 + [1.0] * 150 + [0.0] * 86 + [0.0] * 570
    after = [1.0] * 794 + [0.0] * 150 + [1.0] * 86 + [0.0] * 570
    assert (
        mcnemar(before, after)
        == pytest.approx(chi2.sf(17.36, 1), rel=0.25)
        == mcnemar(after, before)
    )
    assert mcnemar([1.0] + [0.0] * 9, [0.0] + [1.0] * 9) == pytest.approx(22 / 1024)
    assert mcnemar([1.0, 0.0], [1.0, 0.0]) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_equals_statsmodels(pairs):
    from statsmodels.stats.contingency_tables import mcnemar as theirs

    table = [[sum(pair == (a, b) for pair in pairs) for b in (True, False)] for a in (True, False)]
    ours = mcnemar([float(a) for a, _ in pairs], [float(b) for _, b in pairs])
    assert ours == pytest.approx(
        theirs(table, exact=True).pvalue if table[0][1] + table[1][0] else 1.0
    )


def test_mcnemar_is_for_rates():
    with pytest.raises(ValueError, match="0 and 1"):
        mcnemar([0.5], [1.0])
    with pytest.raises(ValueError, match="shorter"):
        mcnemar([1.0, 0.0], [1.0])


def test_holm_equals_its_definition():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@settings(max_examples=25)  # statsmodels collects garbage at each call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_equals_statsmodels(p_values):
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def counted(gains: list[float]) -> float:
    """The permutation of signs by its definition."""
    sizes = [abs(gain) for gain in gains if gain]
    sums = [sum(signs) for signs in itertools.product(*((-size, size) for size in sizes))]
    return sum(each >= -sum(gains) - 1e-9 for each in sums) / len(sums)


def test_six_of_six_losses():
    assert loss_test([-1.0] * 6) == loss_test([-0.3] * 6) == 0.5**6 == least_p([-0.3] * 6 + [0.0])


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=12))
def test_the_sign_test_is_the_permutation_of_signs(gains):
    assert loss_test(gains) == pytest.approx(counted(gains) if sum(gains) < 0 else 1.0)


@given(st.lists(st.floats(-2, 1).map(lambda gain: round(gain, 2)), min_size=1, max_size=10))
def test_few_values_are_counted(gains):
    """Then the result is that or, where Student's after the correction is larger, that one's."""
    if sum(gains) < -1e-9:
        assert loss_test(gains) >= counted(gains) - 1e-12


@pytest.mark.parametrize("n", [20, 60, 200])
@pytest.mark.parametrize("share", [0.55, 0.65, 0.8, 0.95])
def test_the_approximation_equals_the_binomial_test(n, share):
    """Far out in the tail too, where random draws do not reach."""
    from scipy.stats import binom

    from harness.stats.paired import _sign_permutation

    lost = round(share * n)
    gains = [-1.0] * lost + [1.0] * (n - lost)
    ratio = _sign_permutation(gains) / binom.sf(lost - 1, n, 0.5)
    assert 0.97 <= ratio <= (1.5 if share > 0.9 else 1.12)


@pytest.mark.parametrize("n", [15, 30, 100])
def test_the_approximation_equals_random_signs(n):
    from harness.stats.paired import _sign_permutation

    rng = np.random.default_rng(n)
    gains = rng.standard_t(3, n) - 0.5
    gains /= np.abs(gains).max()
    sums = rng.choice([-1.0, 1.0], (400_000, n)) @ np.abs(gains)
    p = float(np.mean(sums >= -gains.sum()))
    assert _sign_permutation(gains.tolist()) == pytest.approx(p, rel=0.06, abs=5e-5)


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.sampled_from([1, 60]), st.floats(0, 0.5)
)
def test_a_p_value_is_never_zero_nor_below_what_is_possible(gains, copies, shift):
    moved = [gain - shift for gain in gains] * copies
    assert 0 < least_p(moved) <= loss_test(moved) * (1 + 1e-9) <= 1 + 1e-9


@pytest.mark.parametrize("factor", [1e-300, 1e-145, 1e-9, 0.3, 100.0, 1e200])
@pytest.mark.parametrize("copies", [1, 8])
def test_the_unit_of_the_gains_changes_no_p_value(factor, copies):
    gains = [*[-0.9, -0.5, 0.0, 0.25] * copies, -0.4]
    scaled = [gain * factor for gain in gains]
    assert loss_test(scaled) == pytest.approx(loss_test(gains), rel=1e-6)


@pytest.mark.parametrize("tiny", [5e-324, 2.2e-309, 1e-300, 1e-12])
def test_a_change_next_to_nothing_leaves_the_p_value_of_the_others(tiny):
    moved = [*[-1.0, -0.75] * 10, *[0.9] * 8]
    ours = loss_test([*moved, *[tiny] * 12])
    assert ours == pytest.approx(loss_test([*moved, *[1e-6] * 12]), rel=1e-3)


@pytest.mark.parametrize(
    ("sizes", "step"),
    [([0.25, 0.5, 1.0], 0.25), ([0.75, 1.0], 0.25), ([1e-8, 1.0], 1e-8), ([1e-10, 1.0], 0.0)],
)
def test_the_step_of_the_sizes_is_found_unless_it_is_next_to_nothing(sizes, step):
    from harness.stats.paired import _grid

    assert _grid(np.array(sizes)) == pytest.approx(step, rel=1e-6, abs=0)


def test_a_p_value_is_not_zero_where_it_underflows():
    assert loss_test([-1.0] * 2000) > 0
    assert loss_test([-1.0, -1.0001] * 1000) > 0


@pytest.mark.parametrize("n", [12, 24, 100])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.lognormal(0, 1.8, n) - rng.lognormal(0, 1.8, n),
        lambda rng, n: rng.standard_t(3, n),
        lambda rng, n: (rng.random(n) < 0.3) * rng.choice([-1.0, 1.0], n),
        lambda rng, n: (rng.binomial(4, (p := rng.beta(0.3, 0.3, n))) - rng.binomial(4, p)) / 4,
    ],
    ids=["skewed values", "heavy tails", "0 or 1", "means of four samples"],
)
def test_two_runs_that_are_alike_but_for_chance_keep_the_level(draw, n):
    """At most 5 %: 999 of 1000 simulations of 600 runs give 49 or fewer."""
    rng = np.random.default_rng(7)
    assert sum(loss_test(draw(rng, n).tolist()) <= 0.05 for _ in range(600)) <= 49


def test_the_correction_for_skewness_keeps_rare_gains_from_being_a_loss():
    """Many lose a little and a few gain much, nothing on average: 6 % at 5 %, and not 9 %."""
    rng = np.random.default_rng(3)
    runs = [rng.lognormal(0, 0.6, 100) - math.exp(0.18) for _ in range(800)]
    assert sum(loss_test(run.tolist()) <= 0.05 for run in runs) / 800 <= 0.08
    assert sum(loss_test((-run).tolist()) <= 0.05 for run in runs) / 800 <= 0.05


def test_only_tests_that_can_fail_count():
    """Tarone (1990): K is the least number such that at most K tests can reach level ÷ K."""
    assert able_to_fail([1.0, 0.5**3, 0.5**8], 0.01) == [False, False, True]
    assert able_to_fail([0.5**8, 0.5**8, 0.5**8], 0.01) == [False] * 3  # .0039 > .01 / 3
    assert able_to_fail([0.5**9] * 3, 0.01) == [True] * 3
    assert able_to_fail([1.0, 1.0], 0.01) == [False, False]
    assert able_to_fail([], 0.01) == []


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.sampled_from([0.01, 0.05]))
def test_those_that_count_can_fail_together(changed, level):
    least = [0.5**count for count in changed]
    counted = able_to_fail(least, level)
    share = level / max(1, sum(counted))
    assert all(p <= share for p, counts in zip(least, counted, strict=True) if counts)


def test_a_hundred_items_find_about_nine_points():
    assert minimum_detectable_effect(100, rate=0.9, correlation=0.5) == pytest.approx(
        0.075, abs=0.02
    )


def test_the_minimum_detectable_effect_is_found_four_times_in_five():
    """Pairs of rates .5 with correlation .5, shifted by the effect that 100 items should find."""
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(9)
    effect = minimum_detectable_effect(100)
    found = 0
    for _ in range(500):
        both = rng.random(100) < 0.5  # shared by half of the answers: the correlation is .5
        base = np.where(rng.random(100) < 0.5**0.5, both, rng.random(100) < 0.5)
        now = np.where(rng.random(100) < 0.5**0.5, both, rng.random(100) < 0.5)
        gains = now.astype(float) - base - (rng.random(100) < 2 * effect) * (now == 1)
        found += ttest_1samp(gains, 0, alternative="less").pvalue < 0.05
    assert 0.74 <= found / 500 <= 0.86


def test_means_over_draws_are_tested_by_signs():
    binary = [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]
    assert paired_test(*binary) == mcnemar(*binary)
    first = [0.25, 0.5, 0.75, 0.5, 0.0, 0.25, 0.5, 0.25]
    assert paired_test(first, [value + 0.25 for value in first]) == pytest.approx(2 / 2**8), (
        "all signs alike: two of all 256"
    )
    assert paired_test(first, first) == 1.0
