"""How often the gate cries wolf, and what it sees: simulated runs of a model in several formats."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from harness.gate.baseline import to_baseline
from harness.gate.thresholds import Margin
from harness.gate.verdicts import compare_baselines

MARGINS = {"stopped": Margin("stopped", 0.05)}
CASES = 100
FORMATS = [f"format-{index}" for index in range(6)]


def two_runs(
    seed: int, loss: float = 0.0, losing: Sequence[str] = ("format-0",)
) -> tuple[dict, dict]:
    """A model that stops in 95 % of cases, of which 10 % turn on a coin. Then some formats lose a share of them."""
    draw = random.Random(f"power-{seed}")
    before, after = {}, {}
    for format in FORMATS:
        chances = [
            draw.random() if draw.random() < 0.1 else float(draw.random() < 0.95)
            for _ in range(CASES)
        ]
        before[format, "stopped"], after[format, "stopped"] = (
            [float(draw.random() < chance) for chance in chances] for _ in range(2)
        )
    for format in losing:
        after[format, "stopped"] = [
            0.0 if draw.random() < loss else value for value in after[format, "stopped"]
        ]
    return before, after


def failures(
    make_evaluation, seed: int, loss: float = 0.0, losing: Sequence[str] = ("format-0",)
) -> list[str]:
    before, after = (
        to_baseline(make_evaluation(values)) for values in two_runs(seed, loss, losing)
    )
    assert before.entries != after.entries
    return [
        verdict.format for verdict in compare_baselines(before, after, MARGINS) if verdict.failed
    ]


def test_an_unchanged_but_noisy_model_never_fails_in_50_repeats(make_evaluation):
    assert [seed for seed in range(50) if failures(make_evaluation, seed)] == []


@pytest.mark.parametrize(("loss", "least", "most"), [(0.10, 0, 4), (0.30, 9, 10)])
def test_a_planted_loss_is_seen_as_often_as_the_thresholds_say(make_evaluation, loss, least, most):
    """At n = 100 and a margin of .05 over six formats, 200 repeats gave 6 % at a loss of 10 points in one of them, 42 % at 15, 80 % at 20, all at 30."""
    found = [failures(make_evaluation, seed, loss) for seed in range(10)]
    assert least <= sum("format-0" in formats for formats in found) <= most
    assert all(set(formats) <= {"format-0", "held-out formats"} for formats in found)


def test_a_loss_of_ten_points_in_every_format_is_seen(make_evaluation):
    """At n = 100 and a margin of .05 the mean over six formats saw it in 191 of 200 repeats; of 200 unchanged runs none failed anywhere."""
    found = [failures(make_evaluation, seed, 0.10, FORMATS) for seed in range(20)]
    assert sum("held-out formats" in formats for formats in found) >= 18
