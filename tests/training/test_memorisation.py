"""The level and the power of the test for memorised training answers."""

from __future__ import annotations

import numpy as np

from harness.training.selection.memorisation import beyond, controls_of, leaves_null


def found(gain: float, seed: int, rows: int = 8) -> bool:
    """Whether it fires on noisy gains of as many rows as controls, rows with ``gain`` on top."""
    rng = np.random.default_rng(seed)
    start = {group: {f"{group}{n}": -2.0 for n in range(rows)} for group in ("rows", "controls")}
    now = {
        group: {item: value + rng.normal(0.3, 0.1) for item, value in items.items()}
        for group, items in start.items()
    }
    now["rows"] = {item: value + gain for item, value in now["rows"].items()}
    return leaves_null(start, now, seed=seed, permutations=500)


def test_it_fires_on_one_run_in_twenty_without_memorisation():
    """Level 5 %: of 300 runs 15 are expected; 30 are four standard errors more."""
    assert 3 <= sum(found(0.0, seed) for seed in range(300)) <= 30


def test_it_fires_where_rows_gained_two_standard_deviations_more():
    assert sum(found(0.2, seed) for seed in range(100)) >= 90
    assert not any(found(-0.2, seed) for seed in range(50))


def test_less_than_the_controls_is_no_memory_whatever_the_null_is():
    assert beyond(0.02, 0.01) and not beyond(0.01, 0.02) and not beyond(-0.01, -0.02)


def test_logs_of_earlier_versions_are_read():
    assert controls_of({"twins": {"a": 1.0}}) == controls_of({"controls": {"a": 1.0}})
    assert controls_of({"rows": {"a": 1.0}}) == {}
