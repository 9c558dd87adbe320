"""One pair of values → failed, passed or inconclusive: each threshold from both sides."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.gate.compare_baselines import _with_elsewhere
from harness.gate.decide import ALPHA, OWN, SHOWN, Paired, cases_needed, decide, family, loss_p
from harness.stats import loss_test


def paired(before, after, margins=None, metric="choice", tolerance=0.02, name="a") -> Paired:
    def named(values):
        return {f"case-{at:03}": float(value) for at, value in enumerate(values)}

    both = None if margins is None else (named(margins[0]), named(margins[1]))
    return Paired(name, metric, tolerance, named(before), named(after), both)


def lost(count: int, n: int = 200) -> Paired:
    return paired([1] * n, [0] * count + [1] * (n - count))


def outcome(pair: Paired) -> str:
    [check] = decide([pair])
    return check.outcome


def test_a_loss_fails_from_one_in_a_hundred_on():
    """All of the cases that changed were lost: 2⁻⁶ is above 1 %, 2⁻⁷ is below."""
    assert ALPHA == 0.01
    assert outcome(lost(6)) == "inconclusive"
    assert outcome(lost(7)) == "failed"
    six = paired([1] * 30, [0] * 6 + [1] * 24, tolerance=0.05)
    [check] = decide([six])
    assert (check.outcome, check.p, round(check.delta, 2)) == ("inconclusive", 0.5**6, -0.2)


def test_a_loss_below_the_tolerance_does_not_fail_however_sure():
    assert outcome(replace(lost(7), tolerance=0.04)) == "inconclusive"
    assert outcome(replace(lost(7), tolerance=0.035)) == "failed"  # exactly the tolerance
    assert outcome(replace(lost(7), tolerance=0.2)) == "passed"
    assert outcome(replace(lost(0), tolerance=0.0)) == "inconclusive"  # no change is no loss


def test_what_passes_is_shown_to_have_lost_less():
    """No change in n cases: the bound of the loss at 5 % is about 2.35 ÷ (n + 2)."""
    assert SHOWN == 0.05
    assert outcome(lost(0, 116)) == "passed"
    assert outcome(lost(0, 114)) == "inconclusive"


def test_a_drop_on_four_cases_is_inconclusive_and_says_how_many_would_decide():
    [check] = decide([paired([1] * 4, [1, 0, 0, 0])])
    assert (check.outcome, check.delta, check.fails) == ("inconclusive", -0.75, False)
    assert 8 <= check.needed <= 20 and check.worst_case == "case-001"


@given(st.lists(st.floats(0, 3), min_size=30, max_size=60))
def test_a_continuous_metric_that_is_equal_in_every_case_passes(values):
    assert outcome(paired(values, values, metric="nll")) == "passed"
    assert outcome(paired([1] * 4, [1] * 4, margins=(values[:4], values[:4]))) == "passed"


def margin_runs(shift: float, n: int = 200, rights: int = 130) -> Paired:
    """Margins that all fall by the shift, with noise; one right answer in twenty turns wrong."""
    was = [0.05 * (at - (n - rights)) + 0.01 for at in range(n)]
    now = [value - shift + 0.4 * math.sin(7.0 * at) for at, value in enumerate(was)]
    return paired([v > 0 for v in was], [v > 0 for v in now], margins=(was, now))


def test_margins_find_a_loss_that_the_picks_alone_do_not():
    pair = margin_runs(0.5)
    alone = replace(pair, margins=None)
    assert pair.loss == alone.loss == pytest.approx(0.05, abs=0.01)
    assert loss_p(alone) > 1e-4 > 1e-12 > loss_p(pair)
    assert outcome(pair) == "failed"


def test_a_drop_of_the_margins_alone_does_not_fail():
    was = [2.0 + at % 3 for at in range(200)]
    now = [value - 0.5 + 0.1 * (at % 2) for at, value in enumerate(was)]
    pair = paired([1] * 200, [1] * 200, margins=(was, now))
    [check] = decide([pair])
    assert check.p < 1e-6 and check.outcome == "passed"


def test_picks_find_a_loss_that_rising_margins_hide():
    """A model that became surer of everything and wrong in a few."""
    was = [1.0] * 200
    now = [-1.0] * 20 + [4.0 + 0.1 * (at % 5) for at in range(180)]
    pair = paired([1] * 200, [value > 0 for value in now], margins=(was, now))
    assert outcome(pair) == "failed"
    assert loss_p(pair) == pytest.approx(2 * 0.5**20)  # Bonferroni over the two tests


def test_margins_count_whether_more_or_less_of_the_metric_is_better():
    was = [1.0 + at % 4 for at in range(60)]
    now = [value - 1.0 - 0.1 * (at % 3) for at, value in enumerate(was)]
    worse = paired(
        [0.1] * 60, [0.3 + 0.01 * (at % 7) for at in range(60)], (was, now), "brier", 0.05
    )
    assert outcome(worse) == "failed"
    assert outcome(worse.turned()) == "improved"


def test_a_gain_is_decided_as_a_loss_is():
    assert outcome(lost(7).turned()) == "improved"
    assert outcome(lost(6).turned()) in ("passed", "inconclusive")


def test_all_tests_of_a_run_share_the_level():
    """Whatever their metric; those in which too little changed take no share."""
    noisy = [
        paired([1, 0] * 20 + [1] * 160, [0, 1] * 20 + [1] * 160, metric=metric, name=name)
        for metric in ("choice", "on_task")
        for name in "bcdefg"
    ]
    adjusted, share = family([lost(11), *noisy])
    assert adjusted[0] == pytest.approx(13 * 0.5**11) and share == pytest.approx(0.01 / 13)
    adjusted, share = family([lost(9), *(replace(lost(0), format=name) for name in "bcdefg")])
    assert adjusted[0] == 0.5**9 and share == 0.01
    adjusted, _ = family([lost(9), *noisy[:3], lost(3)])
    assert adjusted[-1] == 5 * 0.5**3


def test_as_many_cases_as_are_named_decide():
    """The loss of 4 of 40: with as many times the cases the test rejects, at 80 % power or more."""
    pair = paired([1] * 40, [0] * 4 + [1] * 36)
    needed = cases_needed(pair, ALPHA)
    assert 60 <= needed <= 160
    times = -(-needed // 40)
    assert outcome(paired([1] * 40 * times, ([0] * 4 + [1] * 36) * times)) == "failed"
    quiet = lost(0, 40)
    needed = cases_needed(quiet, ALPHA)
    assert outcome(lost(0, needed)) == "passed" and outcome(lost(0, needed // 2)) != "passed"


def test_without_noise_or_distance_no_number_is_named():
    assert cases_needed(paired([1.0], [2.0], metric="nll", tolerance=0.4), ALPHA) == 0
    assert cases_needed(replace(lost(4), tolerance=0.02 + 1e-12), ALPHA) > 0


def test_a_metric_without_an_interval_says_why():
    few = paired(
        [0.1 * at for at in range(12)], [0.1 * at + 0.01 for at in range(12)], metric="nll"
    )
    [check] = decide([few])
    assert check.outcome == "inconclusive" and "12 items are too few" in check.why


def shared_noise(shift: float = 0.0, gain: float = 0.0, n: int = 200) -> list[Paired]:
    """Four formats whose margins a fine-tune moves alike, by more than the shift of the first."""
    rng = random.Random(5)
    base = [0.05 * (at - 70) + 0.01 for at in range(n)]
    moves = [rng.gauss(0, 2.0) for _ in range(n)]
    pairs = []
    for name in "abcd":
        own = [rng.gauss(0, 0.2) + (-shift if name == "a" else gain) for _ in range(n)]
        now = [was + move + each for was, move, each in zip(base, moves, own, strict=True)]
        runs = ([v > 0 for v in base], [v > 0 for v in now])
        pairs.append(paired(*runs, margins=(base, now), name=name))
    return pairs


def test_a_shift_of_one_format_is_seen_against_the_others():
    first = _with_elsewhere(shared_noise(shift=0.5))[0]
    alone = replace(first, elsewhere=None)
    assert loss_p(first) < 1e-20 < 1e-6 < loss_p(alone) <= OWN == 0.05


def test_less_gain_than_elsewhere_is_no_loss():
    """The others gained, the first did not lose: against them it falls back, for certain."""
    first = _with_elsewhere(shared_noise(gain=0.5))[0]
    assert loss_test(first.gains_apart) < 1e-20
    assert loss_p(first) > OWN


def test_a_format_is_not_compared_with_a_single_other_nor_with_other_cases():
    pairs = shared_noise()
    assert all(pair.elsewhere is None for pair in _with_elsewhere(pairs[:2]))
    three = _with_elsewhere(pairs[:3])
    assert all(pair.elsewhere for pair in three)
    fewer = replace(pairs[1], before={"case-000": 1.0}, after={"case-000": 1.0})
    fewer = replace(fewer, margins=({"case-000": 1.0}, {"case-000": 2.0}))
    assert _with_elsewhere([pairs[0], fewer, pairs[2]])[0].elsewhere is None


def test_turning_the_runs_turns_the_others_too():
    pair = _with_elsewhere(shared_noise(shift=0.5))[0]
    assert pair.turned().gains_apart == pytest.approx([-gain for gain in pair.gains_apart])
    assert pair.turned().turned() == pair
