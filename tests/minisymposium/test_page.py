"""The committed page agrees with the committed results, and rewriting it changes nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from experiments.minisymposium.__main__ import minisymposium
from experiments.minisymposium.compose import RESULTS_FILE, SCHEMA, write_results
from experiments.minisymposium.figures import figures
from experiments.minisymposium.page import NONE_YET, results_text
from experiments.minisymposium.sections import sections
from experiments.minisymposium.study import STUDIES, read_study
from experiments.page_results import with_results
from harness.errors import HarnessError
from harness.report.chart import svg_text

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "minisymposium.md"
MODELS = {study.model: study.place for study in (read_study(ROOT / path) for path in STUDIES)}
SMOLLM2, GEMMA = MODELS


def committed(model):
    file = PAGE.with_suffix("") / MODELS[model] / RESULTS_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def page_with(smollm2, gemma=None, page=PAGE):
    results = {SMOLLM2: smollm2, GEMMA: gemma}
    return with_results(page.read_text(encoding="utf-8"), results_text(results, MODELS))


def test_the_page_shows_the_committed_results_and_no_other_numbers():
    """Write it again: python -m experiments.minisymposium --page docs/minisymposium.md."""
    found = {model: committed(model) for model in MODELS}
    assert PAGE.read_text(encoding="utf-8") == page_with(found[SMOLLM2], found[GEMMA])
    for results in found.values():
        assert results is None or (results["schema"], results["scale"]) == (SCHEMA, "full")


def test_the_command_writes_page_results_and_figures(smoke, tmp_path, capsys):
    lab, _ = smoke
    results = json.loads((lab.out / RESULTS_FILE).read_text())
    page = tmp_path / "minisymposium.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    assert minisymposium(["--out", str(lab.out), "--page", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert NONE_YET not in text and text == page_with(results, page=page)
    assert "This model has not been run yet" in text
    shown = [
        line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")
    ]
    assert len(shown) == 8 and all((tmp_path / picture).is_file() for picture in shown)
    assert json.loads((tmp_path / "minisymposium" / "results.json").read_text()) == results


def test_results_that_are_beside_the_page_are_kept(smoke, tmp_path):
    """Only one of the models was run again."""
    _, results = smoke
    results = write_results({**results, "parts": {"5": results["parts"]["5"]}}, tmp_path)
    page = tmp_path / "minisymposium.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    beside = tmp_path / "minisymposium" / MODELS[GEMMA] / RESULTS_FILE
    beside.parent.mkdir(parents=True)
    beside.write_text((tmp_path / RESULTS_FILE).read_text())
    assert minisymposium(["--out", str(tmp_path), "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text == page_with(results, results, page=page)
    assert "has not been run" not in text
    [alpha] = [line for line in text.splitlines() if line.startswith("| Alpha acts")]
    *_, one, other, where, _ = (cell.strip(" *") for cell in alpha.split("|"))
    assert one == other and where in ("both", "none", "inconclusive")  # the same results twice


def test_every_number_on_the_page_follows_the_results(smoke):
    """A change of a number changes the page: none of them is written by hand."""
    _, results = smoke
    before = page_with(results)
    for part, path in (
        ("1", ("rows", 0, "lowest")),
        ("3", ("difference", "value")),
        ("4", ("auto_branch", "nll")),
        ("5", ("rows", 1, "strays")),
        ("8", ("memory_gib",)),
        ("9", ("difference", "value")),
    ):
        changed = copy.deepcopy(results)
        place = changed["parts"][part]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = 987.654
        assert page_with(changed) != before, path


def test_figures_are_the_same_bytes_for_the_same_numbers(smoke):
    _, results = smoke
    first, second = (
        {name: svg_text(figure) for name, figure in figures(results["parts"]).items()}
        for _ in range(2)
    )
    assert first == second and len(first) == 8


def test_a_part_that_was_not_run_is_not_shown(smoke):
    _, results = smoke
    some = {**results, "parts": {"5": results["parts"]["5"]}, "verdicts": [], "minutes": {}}
    assert [section.title for section in sections(some)] == ["5. Alpha"]


def test_parts_that_were_run_on_other_days_and_machines_say_so(smoke):
    _, results = smoke
    other = {"date": "2026-01-02", "machine": "arm64", "threads": 1}
    one = {"date": "2026-03-04", "machine": "arm64", "threads": 8}
    made = {part: other if part in ("3", "5") else one for part in results["parts"]}
    text = page_with({**results, "made": made})
    assert (
        "These results are from 2026-03-04 (parts 1, 2, 4, 6, 7, 8, 9); 2026-01-02 (parts 3, 5)."
    ) in text
    assert "on arm64 with 1 thread (parts 3, 5)" in text
    text = page_with({**results, "made": dict.fromkeys(results["parts"], one)})
    assert "These results are from 2026-03-04.\n" in text
    assert "minutes in total, on arm64 with 8 threads.\n" in text


def test_a_page_of_three_models_is_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(HarnessError, match="--page compares two models"):
        minisymposium([*STUDIES, STUDIES[0], "--page", str(PAGE)])
