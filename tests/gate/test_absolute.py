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
    assert {place: verdict.outcome for place, verdict in found.items()} == {
        ("n", "stopped"): "regressed",
        ("n", "empty"): "regressed",
        ("h", "stopped"): "ok",
    }
    assert found["n", "stopped"].worst_case == "answer-030"
    assert found["n", "empty"].worst_case == "answer-000"
    assert (
        found["n", "stopped"].baseline,
        found["n", "stopped"].current,
        found["n", "stopped"].allowed,
    ) == (None, 0.6, 0.9)


def test_a_few_unlucky_cases_do_not_fail(check):
    assert (
        check({("n", "stopped"): rate(44)}, native="n")["n", "stopped"].outcome == "ok"
    )  # .88, but .76 to .94
    assert check({("n", "stopped"): rate(39)}, native="n")["n", "stopped"].outcome == "regressed"
    assert check({("n", "empty"): rate(8)}, native="n")["n", "empty"].outcome == "ok"  # from .08
    assert check({("n", "empty"): rate(12)}, native="n")["n", "empty"].outcome == "regressed"


def test_not_scored_is_not_passed(check):
    verdict = check(
        {("n", "stopped"): [None, None], ("n", "empty"): rate(0)}, native="n", why="no system role"
    )["n", "stopped"]
    assert (verdict.outcome, verdict.failed, verdict.why) == ("missing", True, "no system role")
