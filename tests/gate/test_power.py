"""How often the gate fails without reason, which losses it sees, and whether it says so truly."""

from __future__ import annotations

import random

import pytest

from benchmarks.gate import TOLERANCES, Change, any_fails, checks_of, seen_where_planted, two_runs
from harness.gate.compare_baselines import paired_values
from harness.gate.power import PLANTED, _shift, _with_margins, _without, power, power_line

FINE_TUNE = Change(turned=0.10)


def pairs_of(seed: int, cases: int, change: Change):
    return paired_values(*two_runs(seed, cases, change), TOLERANCES)[1]


@pytest.mark.parametrize("cases", [12, 100])
@pytest.mark.parametrize("change", [Change(sampled=True), Change(turned=0.20, sampled=True)])
def test_a_model_that_lost_nothing_does_not_fail(change, cases):
    assert not [seed for seed in range(8) if any_fails(checks_of(seed, cases, change))]


def test_a_loss_of_five_points_in_one_format_is_seen_in_its_own_format_only():
    change = Change(0.05, metric="choice", points=0.05)
    found = [checks_of(seed, 200, change) for seed in range(10)]
    assert sum(map(seen_where_planted(change), found)) >= 8
    failing = {check.format for checks in found for check in checks if check.fails}
    assert failing <= {"new-2", "held-out formats"}


@pytest.mark.parametrize("metric", ["choice", "on_task", "leak"])
def test_what_is_planted_is_five_points(metric):
    """On the average over draws, whichever way is better, and with the noise of the pair."""
    pair = next(p for p in pairs_of(3, 200, FINE_TUNE) if (p.metric, p.format) == (metric, "new-2"))
    rng, shift = random.Random(1), _shift(pair)
    assert (shift is None) == (metric != "choice")
    draws = [
        _without(pair, rng) if shift is None else _with_margins(pair, shift, rng)
        for _ in range(150)
    ]
    assert sum(draw.loss for draw in draws) / len(draws) == pytest.approx(PLANTED, abs=0.01)
    if shift is None:  # a shift turns fewer answers to right
        noise = sum(len([gain for gain in each.gains if gain > 0]) for each in draws) / 150
        assert noise == pytest.approx(len([gain for gain in pair.gains if gain]) / 2, abs=4)


def test_the_line_names_each_headline_rate_with_its_cases():
    line = power_line(pairs_of(0, 60, FINE_TUNE))
    assert line.startswith("power: a 5-point loss in one format would be seen in choice ")
    assert "on_task" in line and "stopped" in line and line.count("(n 60)") >= 3


def test_runs_without_any_difference_say_nothing_about_power():
    assert power_line(pairs_of(0, 60, Change())) == ""


def test_the_power_grows_with_the_cases_and_falls_with_the_tests():
    pairs = [p for p in pairs_of(1, 100, FINE_TUNE) if p.metric == "choice"]
    few = [p for p in pairs_of(1, 30, FINE_TUNE) if p.metric == "choice"]
    assert power(few, 0.01, 100) < power(pairs, 0.01, 100)
    assert power(pairs, 1e-6, 100) < power(pairs, 0.01, 100)
