"""The claims that hold on both models, one or none; what was not run or measured is not known."""

from __future__ import annotations

import pytest

from experiments.minisymposium.both_models import both_models, held_on
from experiments.minisymposium.claims import CLAIMS, LEAST, NOT_MEASURED, Finding


@pytest.mark.parametrize(
    ("verdicts", "where"),
    [
        ((True, True), "both"),
        ((True, False), "one"),
        ((False, True), "one"),
        ((True, None), "one, the other inconclusive"),
        ((False, False), "none"),
        ((False, None), "inconclusive"),
        ((None, None), "inconclusive"),
        ((True, "not run"), "not known yet"),
        ((False, "not run"), "not known yet"),
        ((True, "not measured"), "not known yet"),
        (("not measured", None), "not known yet"),
    ],
)
def test_a_claim_held_where_its_verdicts_say_so(verdicts, where):
    absent = {"not run": None, "not measured": NOT_MEASURED}
    assert held_on([absent.get(one, Finding(one, "")) for one in verdicts]) == where


def results(change, from_step):
    """An over-trained run whose canned phrases changed by this at steps 6 and 12."""
    effect = {"value": change, "low": change - 0.04, "high": change + 0.04, "n": 32}
    points = [{"step": step, "value": change, "difference": effect} for step in (6, 12)]
    row = {"symptom": "canned phrase", "from": from_step, "points": points}
    curve = [{"step": step, "epoch": step / 6} for step in (0, 6, 12)]
    return {"parts": {"2": {"symptoms": [row], "curve": curve}}}


def rows(one, other):
    return both_models({"first": one, "second": other})


def test_the_table_has_a_verdict_for_each_model_and_one_for_both():
    claims, order = rows(results(0.5, 6), results(0.0, None))
    [row] = [row for row in claims.rows if "canned phrases" in row[0]]
    assert row[2] == "**holds**: +0.500 (+0.460 to +0.540, n 32)"
    assert row[3] == "does not hold: +0.000 (-0.040 to +0.040, n 32)" and row[4] == "one"
    assert claims.heads == ("claim", "measured", "first", "second", "held on")
    assert any(line.startswith("- **Held on one** (1 of") for line in claims.lines)
    counts = "1 of 15 claims hold, 0 do not hold, and for 0 the result is inconclusive."
    assert f"- On first, {counts} 14 have not been measured." in claims.lines
    rest = [each[2:] for each in claims.rows if each != row]
    assert rest == [("not measured", "not measured", "not known yet")] * (len(CLAIMS) - 1)
    [began] = [row for row in order.rows if row[0] == "canned phrase"]
    assert began[1:] == ("step 6, epoch 1 (after 0, by 6)", "absent to the end (step 12)")
    assert order.rows[0] == began and len(order.rows) == len(LEAST)


def test_a_model_without_results_is_shown_as_not_run():
    claims, order = rows(results(0.5, 6), None)
    assert all(row[3:] == ("not run", "not known yet") for row in claims.rows)
    assert all(row[2] == "not run" for row in order.rows)
    assert any(line.startswith("second has not been run yet") for line in claims.lines)
    assert both_models({"first": None, "second": None}) == []


def test_one_model_alone_is_compared_with_none():
    claims, _ = both_models({"first": results(0.5, 6)})
    assert claims.heads == ("claim", "measured", "first") and len(claims.rows[0]) == 3


def test_a_small_effect_that_is_significant_is_not_an_onset():
    _, order = rows(results(0.045, 6), None)
    [began] = [row for row in order.rows if row[0] == "canned phrase"]
    assert began[1] == "step 6, epoch 1 (after 0, by 6)"
    small = results(0.005, 6)
    _, order = rows(small, None)
    [began] = [row for row in order.rows if row[0] == "canned phrase"]
    assert began[1] == "step 6, epoch 1, but too small to matter until step 12"


def test_a_symptom_that_is_neither_seen_nor_excluded_says_so():
    _, order = rows(results(0.03, None), None)
    [began] = [row for row in order.rows if row[0] == "canned phrase"]
    assert began[1] == "not seen, but not excluded after step 0"
