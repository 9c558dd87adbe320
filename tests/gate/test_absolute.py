from __future__ import annotations

import pytest

from harness.gate.baseline import to_baseline
from harness.gate.requirements import check_absolute
from harness.gate.thresholds import Thresholds

LIMITS = Thresholds({}, {"native": {"stopped": 0.9, "empty": 0.1}, "held-out": {"stopped": 0.5}})


@pytest.fixture
def check(make_evaluation):
    def run(values, **keys):
        return {
            (v.format, v.metric): v
            for v in check_absolute(to_baseline(make_evaluation(values, **keys)), LIMITS)
        }

    return run


def rate(ones: int, n: int = 50) -> list[float]:
    return [1.0] * ones + [0.0] * (n - ones)


def test_a_limit_holds_for_its_group_and_direction(check):
    found = check(
        {
            ("n", "stopped"): rate(30),
            ("n", "empty"): rate(30),
            ("h", "stopped"): rate(30),
            ("h", "empty"): rate(30),
        },
        native="n",
    )
    assert {place: check.outcome for place, check in found.items()} == {
        ("n", "stopped"): "failed",
        ("n", "empty"): "failed",
        ("h", "stopped"): "inconclusive",
    }
    assert found["n", "stopped"].worst_case == "answer-030"
    assert found["n", "empty"].worst_case == "answer-000"
    assert (
        found["n", "stopped"].baseline,
        found["n", "stopped"].current,
        found["n", "stopped"].allowed,
    ) == (None, 0.6, 0.9)


def test_a_few_unlucky_cases_do_not_fail(check):
    def outcome(metric, ones):
        return check({("n", metric): rate(ones)}, native="n")["n", metric].outcome

    assert outcome("stopped", 50) == "passed"  # .93 to 1
    assert outcome("stopped", 44) == "inconclusive"  # .88, but .76 to .94
    assert outcome("stopped", 39) == "failed"
    assert outcome("empty", 0) == "passed"  # to .07
    assert outcome("empty", 8) == "inconclusive"  # from .08
    assert outcome("empty", 12) == "failed"


def test_not_scored_is_not_passed(check):
    check = check(
        {("n", "stopped"): [None, None], ("n", "empty"): rate(0)}, native="n", why="no system role"
    )["n", "stopped"]
    assert (check.outcome, check.fails, check.why) == ("missing", True, "no system role")
