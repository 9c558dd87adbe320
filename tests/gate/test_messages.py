from __future__ import annotations

import pytest

from harness.gate.messages import describe, headline, p_value
from harness.records import GateCheck
from harness.report.wording import compact, signed


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (
            GateCheck(
                "alpaca-newline",
                "stopped",
                "regressed",
                0.98,
                0.71,
                0.05,
                80,
                0.00031,
                worst_case="answer-facts-012",
            ),
            "alpaca-newline · stopped: .98 → .71 (−.27, allowed −.05, n 80, p .0003)\n"
            "worst case: answer-facts-012",
        ),
        (
            GateCheck(
                "chatml", "nll_excess", "regressed", -0.004, 1.5, 0.15, 40, 1e-9, worst_case="ref-1"
            ),
            "chatml · nll_excess: .00 → 1.50 (+1.50, allowed +.15, n 40, p < .0001)\n"
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
            GateCheck("chatml", "stopped", "regressed", None, 0.4, 0.9, 50, worst_case="a"),
            "chatml · stopped: .40 (at least .90, n 50)\nworst case: a",
        ),
        (
            GateCheck("chatml", "empty", "regressed", None, 0.4, 0.1, 50, worst_case="a"),
            "chatml · empty: .40 (at most .10, n 50)\nworst case: a",
        ),
        (
            GateCheck("chatml", "empty", "missing", None, None, 0.1, 0, why="no system role"),
            "chatml · empty: not scored\nwhy: no system role",
        ),
    ],
)
def test_a_failure_is_two_lines(verdict, text):
    assert describe(verdict) == text


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
    assert (p_value(0.05), p_value(0.00031), p_value(0.0), p_value(1.0)) == (
        ".0500",
        ".0003",
        "< .0001",
        "1.0000",
    )
