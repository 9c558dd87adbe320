"""What held on both models, on one, on none: from the findings, and not run is not known."""

from __future__ import annotations

import pytest

from experiments.minisymposium.both_models import both_models, held_on
from experiments.minisymposium.claims import LEAST, Finding


@pytest.mark.parametrize(
    ("verdicts", "where"),
    [
        ((True, True), "both"),
        ((True, False), "one"),
        ((False, True), "one"),
        ((True, None), "one, and the other cannot tell"),
        ((False, False), "none"),
        ((False, None), "open"),
        ((None, None), "open"),
        ((True, "not run"), "open"),
        ((False, "not run"), "open"),
    ],
)
def test_a_claim_held_where_its_verdicts_say_so(verdicts, where):
    found = [None if one == "not run" else Finding(one, "") for one in verdicts]
    assert held_on(found) == where


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
    [began] = [row for row in order.rows if row[0] == "canned phrase"]
    assert began[1:] == ("step 6, epoch 1 (after 0, by 6)", "absent to the end (step 12)")
    assert order.rows[0] == began and len(order.rows) == len(LEAST)


def test_a_model_without_results_is_shown_as_not_run():
    claims, order = rows(results(0.5, 6), None)
    assert all(row[3] == "not run" and row[4] == "open" for row in claims.rows)
    assert all(row[2] == "not run" for row in order.rows)
    assert any(line.startswith("second was not run yet") for line in claims.lines)
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
    assert began[1] == "step 6, epoch 1, but below what matters until step 12"


def test_a_symptom_that_is_neither_seen_nor_excluded_says_so():
    _, order = rows(results(0.03, None), None)
    [began] = [row for row in order.rows if row[0] == "canned phrase"]
    assert began[1] == "not seen; not excluded after step 0"
