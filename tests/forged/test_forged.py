"""experiments.forged: the verdict on a recipe, and all of the code on the tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.before_after import read_numbers, write_numbers
from experiments.forged.__main__ import RECIPES, forged
from experiments.forged.measure import FORMATS, METRICS, Plan, measure
from experiments.forged.page import MARGIN, results_text, within
from experiments.page_results import BEGIN, END, with_kept
from harness.errors import HarnessError
from harness.training.config import read_config

ROOT = Path(__file__).resolve().parents[2]


def change(at_least, at_most):
    return {"at_least": at_least, "at_most": at_most}


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (change(-0.1, 0.02), "yes"),
        (change(-0.1, 0.0201), "inconclusive"),
        (change(0.02, 0.06), "inconclusive"),
        (change(0.0201, 0.06), "no"),
        (change(None, None), "not measured"),
        (None, "not measured"),
    ],
)
def test_a_recipe_is_judged_by_one_sided_bounds(found, verdict):
    assert MARGIN == 0.02
    assert within(found) == verdict


def test_every_recipe_of_the_small_model_is_measured():
    shipped = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "docs" / "recipes").glob("*.toml")
        if read_config(file).model == "SmolLM2-135M-Instruct"
    }
    assert shipped == set(RECIPES)


def test_a_smoke_run_measures_what_the_page_shows(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    plan = Plan(tmp_path / "out", 26, str(tiny_model), smoke=True)
    file = measure(Path("docs/recipes/smollm2-cpu.toml"), plan)
    [run] = read_numbers(plan.out).values()
    assert file.parent.name == run["recipe"] == "smollm2-cpu"
    for metric in METRICS:
        every = run[f"all {metric}"]
        assert every["low"] < every["at_least"] <= every["value"] <= every["at_most"]
        assert run[f"native {metric}"]["n"] * len(FORMATS) >= every["n"] > 0
    page = tmp_path / "page.md"
    page.write_text(f"# T\n{BEGIN}old\n{END}tail\n")
    assert forged(["--page", str(page), "--out", str(plan.out)]) == 0
    assert page.read_text() == f"# T\n{BEGIN}{results_text([run])}{END}tail\n"
    assert "| smollm2-cpu | 0.00 → 0.00 (+0.00, " in page.read_text()
    assert within(run["all forged"]) == run["within"] in page.read_text()
    (plan.out / "smollm2-cpu" / "numbers.json").unlink()
    other = {**run, "recipe": "another"}
    write_numbers(plan.out / "another", other)
    assert forged(["--page", str(page), "--out", str(plan.out)]) == 0
    assert results_text([other, run]) in page.read_text(), "what was not run again is kept"


def test_the_page_shows_the_committed_numbers_and_no_others():
    page = ROOT / "docs" / "forged-turns.md"
    runs = with_kept(page, {}, "")
    assert results_text(list(runs.values())) in page.read_text("utf-8")
    assert {run["within"] for run in runs.values()} <= {"yes", "no", "inconclusive"}


def test_a_page_without_results_is_refused(tmp_path):
    (tmp_path / "page.md").write_text(f"{BEGIN}{END}")
    with pytest.raises(HarnessError, match="no results yet") as refused:
        forged(["--page", str(tmp_path / "page.md"), "--out", str(tmp_path / "none")])
    assert "python -m experiments.forged" in str(refused.value)
