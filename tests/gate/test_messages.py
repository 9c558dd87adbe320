from __future__ import annotations

import pytest

from harness.gate.messages import describe, github_lines, headline, is_drop, p_value
from harness.records import GateCheck
from harness.report.wording import compact, signed


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (
            GateCheck(
                "alpaca-newline",
                "stopped",
                "failed",
                0.98,
                0.71,
                0.05,
                80,
                0.00031,
                worst_case="answer-facts-012",
            ),
            "alpaca-newline · stopped: .98 → .71 (−.27, tolerance −.05, n 80, p .0003)\n"
            "worst case: answer-facts-012",
        ),
        (
            GateCheck(
                "chatml", "nll_excess", "failed", -0.004, 1.5, 0.15, 40, 1e-9, worst_case="ref-1"
            ),
            "chatml · nll_excess: .00 → 1.50 (+1.50, tolerance +.15, n 40, p < .0001)\n"
            "worst case: ref-1",
        ),
        (
            GateCheck(
                "chatml", "leak", "missing", 0.1, None, 0.05, 0, why="the format was not evaluated"
            ),
            "chatml · leak: .10 → not scored\nwhy: the format was not evaluated",
        ),
        (
            GateCheck(
                "chatml",
                "leak",
                "missing",
                0.1,
                0.2,
                0.05,
                0,
                why="no case in common with the baseline (3 there, 4 here)",
            ),
            "chatml · leak: .10 → .20 (cannot be compared, n 0)\n"
            "why: no case in common with the baseline (3 there, 4 here)",
        ),
        (
            GateCheck(
                "chatml", "leak", "stale", 0.1, 0.2, 0.05, 9, why="the template of chatml changed"
            ),
            "chatml · leak: .10 → .20 (stale, n 9)\nwhy: the template of chatml changed",
        ),
        (
            GateCheck("chatml", "stopped", "failed", None, 0.4, 0.9, 50, worst_case="a"),
            "chatml · stopped: .40 (at least .90, n 50)\nworst case: a",
        ),
        (
            GateCheck("chatml", "empty", "failed", None, 0.4, 0.1, 50, worst_case="a"),
            "chatml · empty: .40 (at most .10, n 50)\nworst case: a",
        ),
        (
            GateCheck("chatml", "empty", "missing", None, None, 0.1, 0, why="no system role"),
            "chatml · empty: not scored\nwhy: no system role",
        ),
    ],
)
def test_a_failure_is_two_lines(check, text):
    assert describe(check) == text


def test_a_lost_ability_is_named_with_what_brings_it_back():
    lost = GateCheck("qwen3", "thinks", "failed", 1.0, 0.0, 0.05, 60, 1e-9, worst_case="thought-1")
    assert describe(lost) == (
        "qwen3 · thinks: 1.00 → .00 (−1.00, tolerance −.05, n 60, p < .0001)\n"
        "it lost its thinking: train on answers with their thoughts, or switch thinking off in the"
        " format\nworst case: thought-1"
    )
    open_one = GateCheck("qwen3", "thinks", "inconclusive", 1.0, 0.9, 0.05, 9, 0.2)
    assert "lost its thinking" not in describe(open_one)


def test_a_new_entry_has_no_limit():
    assert (
        headline(GateCheck("chatml", "empty", "new", None, 0.4, 0.1, 50))
        == "chatml · empty: .40 (n 50)"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98, ".98"),
        (1.0, "1.00"),
        (0.0, ".00"),
        (-0.27, "−.27"),
        (-0.001, ".00"),
        (0.999, "1.00"),
        (-12.345, "−12.35"),
        (None, "–"),
    ],
)
def test_numbers_have_two_decimals_and_no_leading_zero(value, text):
    assert compact(value) == text


def test_signs_and_p_values():
    assert (signed(0.3), signed(-0.3), signed(-0.001)) == ("+.30", "−.30", "+.00")
    shown = [p_value(p) for p in (0.5**6, 0.05, 0.00031, 1e-9, 0.25, 1.0)]
    assert shown == [".016", ".050", ".0003", "< .0001", ".25", "1.00"]


def undecided_check(**changed):
    facts = {"n": 4, "p": 0.125, "worst_case": "a", "needed": 18, **changed}
    return GateCheck("chatml", "stopped", "inconclusive", 1.0, 0.25, 0.02, **facts)


@pytest.mark.parametrize(
    ("changed", "second"),
    [
        ({}, "inconclusive: about 18 cases would decide; worst case: a"),
        ({"needed": 0, "worst_case": ""}, "inconclusive: too few cases"),
        (
            {"needed": 0, "why": "2 items are too few", "worst_case": ""},
            "inconclusive: 2 items are too few",
        ),
        ({"needed": 10_001}, "inconclusive: more than 10000 cases would be needed; worst case: a"),
    ],
)
def test_an_inconclusive_check_shows_the_drop_and_how_many_cases_would_decide(changed, second):
    first, found = describe(undecided_check(**changed)).splitlines()
    assert first == "chatml · stopped: 1.00 → .25 (−.75, tolerance −.02, n 4, p .12)"
    assert found == second


@pytest.mark.parametrize(
    ("check", "drop"),
    [
        (undecided_check(), True),
        (GateCheck("a", "stopped", "inconclusive", 1.0, 0.98, 0.02, 50), True),
        (GateCheck("a", "stopped", "inconclusive", 1.0, 0.99, 0.02, 100), False),
        (GateCheck("a", "leak", "inconclusive", 0.0, 0.05, 0.02, 20), True),
        (GateCheck("a", "stopped", "inconclusive", None, 0.89, 0.9, 20), True),
        (GateCheck("a", "stopped", "inconclusive", None, 0.91, 0.9, 20), False),
        (GateCheck("a", "stopped", "passed", 1.0, 0.98, 0.02, 50), False),
    ],
)
def test_a_drop_is_an_undecided_loss_of_the_tolerance(check, drop):
    assert is_drop(check) == drop
    assert bool(github_lines([check])) == drop
    assert all(line.startswith("::warning ") for line in github_lines([check]))
