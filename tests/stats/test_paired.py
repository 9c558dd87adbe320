"""Paired tests against textbook values, statsmodels and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats import (
    holm,
    mcnemar,
    minimum_detectable_effect,
    noninferiority,
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


def test_noninferiority_is_silent_without_a_loss_and_sure_with_one():
    rng = np.random.default_rng(3)
    assert noninferiority([0.0] * 50, 0.0) == 1.0
    assert noninferiority([-1.0] * 30 + [0.0] * 10, 0.05) < 1e-6
    false_alarms = sum(
        noninferiority(rng.choice([-1.0, 0.0, 1.0], 100, p=[0.1, 0.8, 0.1]).tolist(), 0.0) < 0.05
        for _ in range(400)
    )
    assert false_alarms / 400 <= 0.06


@pytest.mark.parametrize("loss", [1.0, 0.3])
@pytest.mark.parametrize("n", [2, 3, 4, 24])
def test_losses_that_are_all_alike_get_the_sign_tests_bound(n, loss):
    """Without variance Student's test would give 0, from two cases already."""
    assert noninferiority([-loss] * n, 0.05) == 0.5**n
    assert noninferiority([-1.0] * n, 0.0) == pytest.approx(0.5**n)  # the exact sign test
    assert noninferiority([-loss] * n, loss) == 1.0  # within the margin


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=40), st.sampled_from([1, 60]), st.floats(0, 0.5)
)
def test_a_p_value_is_never_zero(differences, copies, margin):
    assert 0 < noninferiority(differences * copies, margin) <= 1


def test_a_p_value_is_not_zero_where_it_underflows():
    assert noninferiority([-1.0] * 2000, 0.05) > 0
    assert noninferiority([-1.0, -1.0001] * 1000, 0.05) > 0


def test_noninferiority_keeps_its_level_at_the_margin():
    """With a true loss of exactly the margin, about one run in twenty is called worse."""
    rng = np.random.default_rng(8)
    alarms = sum(
        noninferiority(rng.choice([-1.0, 0.0, 1.0], 100, p=[0.15, 0.8, 0.05]).tolist(), 0.1) < 0.05
        for _ in range(600)
    )
    assert 0.02 <= alarms / 600 <= 0.08


def test_a_hundred_items_find_about_nine_points():
    assert minimum_detectable_effect(100, rate=0.9, correlation=0.5) == pytest.approx(
        0.075, abs=0.02
    )


def test_the_minimum_detectable_effect_is_found_four_times_in_five():
    """Pairs of rates .5 with correlation .5, shifted by the effect that 100 items should find."""
    rng = np.random.default_rng(9)
    effect = minimum_detectable_effect(100)
    found = 0
    for _ in range(500):
        both = rng.random(100) < 0.5  # shared by half of the answers: the correlation is .5
        base = np.where(rng.random(100) < 0.5**0.5, both, rng.random(100) < 0.5)
        now = np.where(rng.random(100) < 0.5**0.5, both, rng.random(100) < 0.5)
        gains = now.astype(float) - base - (rng.random(100) < 2 * effect) * (now == 1)
        found += (
            noninferiority(gains.tolist(), 1e-9) < 0.05
        )  # Student's; the exact sign test at 0 finds somewhat less
    assert 0.74 <= found / 500 <= 0.86


def test_means_over_draws_are_tested_by_signs():
    binary = [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]
    assert paired_test(*binary) == mcnemar(*binary)
    first = [0.25, 0.5, 0.75, 0.5, 0.0, 0.25, 0.5, 0.25]
    assert paired_test(first, [value + 0.25 for value in first]) == pytest.approx(2 / 2**8), (
        "all signs alike: two of all 256"
    )
    assert paired_test(first, first) == 1.0
