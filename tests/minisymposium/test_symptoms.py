"""A symptom appears where its paired interval leaves 0 for the worse, and not before."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from experiments.effects import onset
from experiments.minisymposium.symptoms import ANSWERED, course, in_order
from experiments.minisymposium.verdicts import verdicts
from experiments.paired import by_case, difference
from harness.records import Score


@dataclass
class Answered:
    scores: list[Score]


def answered(metric, values, format="chatml"):
    return Answered(
        [
            Score(f"premise-{number:03}", format, metric, value, "")
            for number, value in enumerate(values)
        ]
    )


@pytest.mark.parametrize("symptom", ANSWERED)
def test_it_appears_when_it_is_surely_worse_and_never_when_it_is_better(symptom):
    metric, _, more_is_worse = ANSWERED[symptom]
    good, bad = (0.0, 1.0) if more_is_worse else (1.0, 0.0)
    base = answered(metric, [good] * 36)
    slightly, surely = (
        answered(metric, [bad] + [good] * 35),
        answered(metric, [bad] * 24 + [good] * 12),
    )
    found = course(symptom, base, {6: base, 12: slightly, 18: surely})
    assert found["from"] == 18 and [point["step"] for point in found["points"]] == [0, 6, 12, 18]
    assert found["points"][-1]["value"] == pytest.approx(24 / 36)
    assert course(symptom, surely, {6: base})["from"] is None
    assert course(symptom, base, {6: surely, 12: base, 18: surely})["from"] == 18


def test_a_symptom_that_does_not_stay_has_no_onset():
    assert onset({6: True, 12: True}) == 6 and onset({6: True, 12: False, 18: True}) == 18
    assert onset({6: True, 12: False}) is None and onset({}) is None


def test_only_the_cases_of_both_are_compared():
    assert difference({"a": 1.0}, {"b": 2.0}, "nll") is None
    assert difference({"a": 1.0, "b": 5.0}, {"a": 2.0, "c": 9.0}, "nll")["value"] == 1.0
    two = Answered(
        [
            Score("premise-1", "x", "drift", 1.0, ""),
            Score("premise-1", "y", "drift", 0.0, ""),
            Score("other", "x", "drift", None, ""),
        ]
    )
    assert by_case(two, "drift") == {"premise-1": 0.5} and by_case(two, "drift", formats=["y"]) == {
        "premise-1": 0.0
    }


def test_the_order_is_that_of_the_steps():
    rows = [
        {"symptom": name, "from": step}
        for name, step in (("a", None), ("b", 12), ("c", 6), ("d", 6))
    ]
    assert [row["symptom"] for row in in_order(rows)] == ["c", "d", "b", "a"]


def best(gap, choice, recall):
    """A row whose intervals are ±.1 around these values."""
    row = {
        "gap_closed": {"value": gap, "low": gap - 0.1, "high": gap + 0.1, "n": 40},
        "native_choice_change": {
            "value": choice,
            "low": choice - 0.1,
            "high": choice + 0.1,
            "n": 9,
        },
        "recall_excess": {"value": recall, "limit": 0.1, "rows": 8, "controls": 100},
    }
    return {"6": {"rows": [{}, row]}}


def test_a_demand_holds_or_fails_only_where_the_whole_interval_says_so():
    gate = [{"exit": 1, "failed": 3}, {"exit": 0, "failed": 0}]
    judged = [
        [verdict["holds"] for verdict in verdicts(found, gate[gate_failed])]
        for found, gate_failed in (
            (best(1.01, 0.11, 0.1), 0),
            (best(0.79, -0.11, 0.11), 1),
            (best(0.9, 0.0, 0.1), 0),
        )
    ]
    assert judged == [[True] * 4, [False] * 4, [None, None, True, True]]
    few = best(1.0, 0.0, 0.1)
    few["6"]["rows"][-1]["recall_excess"]["controls"] = 99
    assert verdicts(few, gate[0])[2]["holds"] is None
    unbounded = best(1.0, 0.0, 0.1)
    unbounded["6"]["rows"][-1]["gap_closed"] |= {"low": None, "high": None}
    assert verdicts(unbounded, gate[0])[0]["holds"] is None
    maps = {
        "1": {"pick": 2.02, "pick_short_of_lowest": 0.01, "lowest": 2.0, "start": 2.5},
        "4": {"auto_branch": {"nll": 2.03}, "rows": [{"curve": [{"nll_held_out": 2.5024}]}]},
    }
    assert [verdict["holds"] for verdict in verdicts(maps, None)] == [True, False]
    maps["4"]["rows"][0]["curve"][0]["nll_held_out"] = 2.5026
    assert [verdict["holds"] for verdict in verdicts(maps, None)] == [True, None]
    assert verdicts({}, None) == []
