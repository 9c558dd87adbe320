from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.gate.baseline import to_baseline
from harness.gate.requirements import check_requirements, parse_requirement

VALUES = {
    ("n", "stopped"): [1.0] * 10,
    ("s", "stopped"): [1.0] * 5 + [0.0] * 5,
    ("h-one", "stopped"): [1.0] * 9 + [0.0],
    ("h-two", "stopped"): [1.0] * 7 + [0.0] * 3,
    ("h-one", "leak"): [0.0] * 10,
    ("h-two", "leak"): [None] * 10,
}
GROUPS = {"n": "native", "s": "seen", "h-one": "held-out", "h-two": "held-out"}


@pytest.fixture
def check(make_evaluation):
    run = to_baseline(make_evaluation(VALUES, native="n", groups=GROUPS, why="too long"))
    return lambda text: check_requirements(run, [parse_requirement(text)])[0]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("held_out.stopped >= .8", True),
        ("held_out.stopped > .8", False),
        ("held-out.stopped>=0.81", False),
        ("native.stopped >= 1", True),
        ("seen.stopped <= .5", True),
        ("all.stopped >= .775", True),
        ("h-*.stopped < .8", False),
        ("h-one.leak <= 0", True),
    ],
)
def test_a_requirement_is_judged_on_the_mean_over_its_formats(check, text, holds):
    check = check(text)
    assert (check.outcome, check.fails) == (("passed", False) if holds else ("failed", True))
    assert check.why.startswith(f"required: {text}")


def test_the_worst_format_is_named(check):
    assert check("held_out.stopped >= .9").why.endswith("worst format: h-two")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("llama3.stopped >= .1", "no format of this run"),
        ("held_out.leak <= 1", "not scored in h-two (too long)"),
    ],
)
def test_what_was_not_measured_is_not_green(check, text, why):
    check = check(text)
    assert check.fails and why in check.why


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stopped >= .9",
        "held_out.stopped",
        "held_out.stopped == 1",
        "held_out.stopped >= high",
        "a.b.c.d >= 1",
        "held_out.stoped >= .9",
    ],
)
def test_an_invalid_requirement_is_refused(text):
    with pytest.raises(HarnessError, match="--gate-require"):
        parse_requirement(text)
