"""The gate's level and power on simulated models, with enough runs to tell percents."""

from __future__ import annotations

import pytest

from benchmarks.gate import LOSSES, UNCHANGED, Change, any_fails, runs_of, seen_where_planted
from harness.gate.decide import decide, family
from harness.gate.power import power
from tests.gate.test_power import pairs_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", UNCHANGED)
@pytest.mark.parametrize("cases", [24, 200])
def test_at_most_one_run_in_a_hundred_fails_where_nothing_was_lost(name, cases):
    """A rate of 1 % gives 5 or fewer of 200 in 98 % of simulations; all ten gave fewer."""
    assert sum(map(any_fails, runs_of(200, cases, UNCHANGED[name]))) <= 5


@pytest.mark.parametrize("name", ["choice, 5 points, 5 % turned", "stopped, 10 points, 5 % turned"])
def test_what_is_documented_as_seen_is_seen(name):
    change = LOSSES[name]
    assert sum(map(seen_where_planted(change), runs_of(60, 200, change))) >= 48


@pytest.mark.parametrize(
    ("metric", "points", "turned", "cases"),
    [("choice", 0.05, 0.10, 120), ("choice", 0.05, 0.10, 200), ("on_task", 0.05, 0.05, 200)],
)
def test_the_printed_power_is_what_the_gate_finds(metric, points, turned, cases):
    """Said of runs without the loss, found in other runs of the same models with it: 5 points."""
    change, seeds = Change(turned, metric=metric, points=points), range(250)
    said = []
    for seed in seeds:
        pairs = pairs_of(seed, cases, Change(turned))
        own = [p for p in pairs if p.metric == metric and not p.format.endswith(" formats")]
        said.append(power(own, family(pairs)[1], draws=30, seed=seed))
    found = [
        any(c.fails and (c.metric, c.format) == (metric, "new-2") for c in decide(pairs))
        for pairs in (pairs_of(seed, cases, change) for seed in seeds)
    ]
    assert sum(said) / len(said) == pytest.approx(sum(found) / len(found), abs=0.05)
