"""experiments.teaching: the demands on a recipe, and all of the code on the tiny model."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from experiments.before_after import read_numbers
from experiments.page_results import BEGIN, END, with_kept, with_results
from experiments.teaching.measure import Plan, config_of, measure, read_recipes
from experiments.teaching.page import (
    demand_lines,
    demands,
    pareto,
    results_text,
    table,
)
from harness.errors import HarnessError

GOOD = {
    "recipe": "good",
    "seed": 0,
    "seconds": 61.0,
    "native nll": {"value": -0.31, "low": -0.35, "high": -0.27, "levels": [3.0, 2.69]},
    "held-out nll": {"value": -0.51, "low": -0.6, "high": -0.4, "levels": [3.21, 2.7]},
    "native choice": {"value": -0.01, "low": -0.05, "high": 0.03, "levels": [0.5, 0.49]},
    "held-out nll_excess": {"value": -0.2, "low": -0.3, "high": -0.1, "levels": [0.21, 0.01]},
    "held-out on_task": {"value": 0.2, "low": 0.1, "high": 0.3, "levels": [0.1, 0.3]},
    "held-out stopped": {"value": 0.2, "low": 0.1, "high": 0.3, "levels": [0.1, 0.3]},
    "held-out gap closed": {"value": 0.95, "low": 0.65, "high": 1.2},
    "recall": {"excess": 0.02, "low": -0.01, "high": 0.05, "n_null": 200},
}


@pytest.mark.parametrize(
    ("number", "key", "value", "fails"),
    [
        ("native nll", "value", -0.29, "native NLL"),
        ("held-out gap closed", "value", 0.89, "at least 90 %"),
        ("held-out gap closed", "low", 0.59, "at least 90 %"),
        ("held-out gap closed", "low", None, "at least 90 %"),
        ("recall", "low", 0.001, "training answers"),
        ("recall", "n_null", 199, "training answers"),
        ("held-out stopped", "low", 0.0, "more answers"),
        ("held-out on_task", "low", -0.01, "more answers"),
        ("native choice", "high", -0.001, "native choice"),
    ],
)
def test_each_demand_is_met_and_fails_by_its_own_number(number, key, value, fails):
    assert all(demands(GOOD).values())
    worse = copy.deepcopy(GOOD)
    worse[number][key] = value
    assert [name for name, met in demands(worse).items() if not met] == [
        name for name in demands(GOOD) if name.startswith(fails)
    ]


def test_what_was_not_measured_meets_no_demand():
    nothing = {key: None if isinstance(value, dict) else value for key, value in GOOD.items()}
    assert not any(demands(nothing).values())
    assert table([nothing])[-1].count("–") == 8


def test_a_share_of_a_gap_that_may_be_0_is_not_shown():
    unbounded = copy.deepcopy(GOOD)
    unbounded["held-out gap closed"] = {"value": -1.3, "low": None, "high": None}
    assert table([unbounded])[-1].count("–") == 1 and "130%" not in table([unbounded])[-1]


def test_the_page_counts_the_seeds_and_keeps_its_text():
    bad = copy.deepcopy(GOOD) | {"seed": 1, "recall": None}
    page = with_results(f"# T\n{BEGIN}old\n{END}tail\n", results_text([GOOD, bad], "t.svg"))
    assert page.startswith("# T\n") and page.endswith("tail\n") and "old" not in page
    assert "| good | 2 of 2 | 2 of 2 | 1 of 2 | 2 of 2 | 2 of 2 |" in page
    assert "-0.310 (-0.350 to -0.270) | -0.510 (-0.600 to -0.400)" in page
    assert "95% (65% to 120%)" in page
    assert demand_lines([]) == ["| recipe |  |", "|---|"]
    assert "t.svg" not in page, "one recipe is no comparison"
    two = results_text([GOOD, copy.deepcopy(GOOD) | {"recipe": "other"}], "t.svg")
    assert two.endswith("![taught over recited](t.svg)\n")


def test_a_point_of_the_picture_is_the_mean_over_seeds():
    other = copy.deepcopy(GOOD) | {"seed": 1}
    other["native nll"]["value"], other["recall"]["excess"] = -0.51, 0.06
    [axes] = pareto([GOOD, other]).axes
    [x], [y] = axes.lines[0].get_data()
    assert (round(x, 3), round(y, 3)) == (0.04, 0.41)


def test_every_recipe_is_one_of_ours():
    for changes in read_recipes().values():
        config_of(changes, 0)
    assert config_of(read_recipes()["half"], 3).objective.supervised_weight == 0.5
    assert config_of({}, 3).seed == 3 and config_of({}, 3).objective.teacher_folds == 2
    with pytest.raises(HarnessError, match="unknown key optimisation"):
        config_of({"optimisation": {"rate": 1}}, 0)


def test_a_smoke_run_measures_what_the_page_shows(tiny_model, tmp_path):
    plan = Plan(tmp_path, 5, 2, 8, str(tiny_model), smoke=True)
    file = measure("folds", read_recipes()["folds"], 0, plan)
    [run] = read_numbers(tmp_path).values()
    assert file.parent.name == "folds-0" and run["formats_seed"] == 5
    assert run["native nll"]["levels"][0] != run["native nll"]["levels"][1]
    assert len(table([run])) == 3
    made_up = [name for name in plan.formats if name.startswith("grammar")]
    assert all("seed=5" in name and "split=test" in name for name in made_up)


def test_the_page_shows_the_committed_numbers_and_no_others():
    page = Path(__file__).resolve().parents[2] / "docs" / "teaching.md"
    runs = list(with_kept(page, {}, "").values())
    assert results_text(runs, page.with_suffix(".svg").name) in page.read_text("utf-8")
