"""The whole experiment on the tiny model: every part, resumed, the same numbers again."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.minisymposium.__main__ import minisymposium
from experiments.minisymposium.compose import (
    PAGE_FILE,
    RESULTS_FILE,
    read_results,
    run_experiment,
    write_results,
)
from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.merge import merge
from experiments.minisymposium.sitting import Sitting, SittingOver
from experiments.minisymposium.study import PARTS, STUDIES, read_study
from harness.errors import HarnessError
from harness.training.loop import Trainer
from tests.minisymposium.conftest import FEW_FORMATS
from tests.tiny import build_model

ROOT = Path(__file__).resolve().parents[2]


def numbers(results):
    return json.dumps(
        {key: value for key, value in results.items() if key != "minutes"}, sort_keys=True
    )


def test_every_part_has_results_and_the_page_shows_them(smoke):
    lab, results = smoke
    assert sorted(results["parts"]) == [str(part) for part in PARTS]
    page = (lab.out / PAGE_FILE).read_text()
    for title in (
        "1. Learning rate",
        "2. The over-trained run",
        "3. Does patience",
        "4. Schedules",
        "5. Alpha",
        "6. Formats",
        "7. Another language",
        "8. The 7B plan",
        "9. The longest run",
        "The claims and their verdicts",
    ):
        assert title in page
    assert page.count("<svg") == 8 and "<script" not in page and "its numbers mean nothing" in page
    assert results == json.loads((lab.out / RESULTS_FILE).read_text())


def test_a_second_run_trains_and_evaluates_nothing_and_gives_the_same_numbers(smoke, monkeypatch):
    lab, results = smoke
    monkeypatch.setattr(Trainer, "step", lambda *_: 1 / 0)
    again = Experiment(lab.study, lab.out, lab.model, "smoke", quiet=True)
    found = run_experiment(again, (1, 3, 5, 7))
    assert (
        all(evaluation.computed == 0 for evaluation in again.evaluated.values()) and again.evaluated
    )
    assert numbers(found) == numbers(results)


def test_a_shared_run_is_trained_once(smoke):
    lab, _ = smoke
    trunk = lab.run(lab.study.over)
    assert (
        trunk == lab.run(lab.study.auto_branch)
        and (trunk / "chosen").is_dir()
        and (trunk / "adapter").is_dir()
    )
    entries = [json.loads(line) for line in (trunk / "metrics.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in entries if entry["kind"] == "step"]
    assert steps == sorted(set(steps))


class Interrupted(Sitting):
    """A sitting that is over after a number of runs, evaluations and checkpoints."""

    def __init__(self, chances):
        super().__init__()
        self.left = chances

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise SittingOver("over")


def test_one_part_in_many_sittings_is_the_same_part(smoke, tmp_path):
    """Each begins again in a new process's state, and gets a little further."""
    lab, results = smoke
    sittings = 0
    found = None
    while found is None:
        sittings += 1
        sitting = Interrupted(2 * sittings)
        alone = Experiment(lab.study, tmp_path, lab.model, "smoke", quiet=True, sitting=sitting)
        try:
            found = run_experiment(alone, (5,))
        except SittingOver:
            assert sittings < 20
    assert sittings >= 4
    assert sorted(found["parts"]) == ["5"] and found["parts"]["5"] == results["parts"]["5"]


def test_a_sitting_that_ends_between_two_parts_leaves_the_page_of_the_first(smoke):
    lab, _ = smoke
    page = (lab.out / PAGE_FILE).read_text()
    (lab.out / PAGE_FILE).unlink()
    sitting = Interrupted(len(lab.study.runs(1)))
    again = Experiment(lab.study, lab.out, lab.model, "smoke", quiet=True, sitting=sitting)
    with pytest.raises(SittingOver):
        run_experiment(again, (1, 3))
    assert (lab.out / PAGE_FILE).read_text() == page


def test_a_sitting_ends_after_its_minutes_and_never_ends_a_run(monkeypatch):
    assert Sitting().after_checkpoint([{"step": 6}]).stop == ""
    clock = iter((100.0, 219.9, 220.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    two = Sitting(2)
    two.check()
    with pytest.raises(SittingOver, match="sitting of 2 minutes"):
        two.check()
    monkeypatch.undo()
    over = Sitting(1e-9)
    with pytest.raises(SittingOver, match="the same command resumes"):
        over.check()
    assert over.after_checkpoint([{"step": 6}]).stop == ""  # not logged yet
    with pytest.raises(SittingOver):
        over.after_checkpoint([{"step": 6}])
    assert over.after_checkpoint([{"step": 0}]).stop == ""  # of the next run
    assert over.after_checkpoint([{"step": 6}]).stop == ""


def test_parts_of_several_folders_are_merged(smoke, tmp_path):
    _, results = smoke
    folders = [tmp_path / name for name in ("a", "b")]
    for folder, parts in zip(folders, (("1", "3", "9"), ("3", "5")), strict=True):
        some = {part: results["parts"][part] for part in parts}
        made = {part: {**results["made"][part], "threads": len(parts)} for part in parts}
        write_results({**results, "parts": some, "made": made, "gate": None}, folder)
    merged = merge(folders, folders[0])
    assert sorted(merged["parts"]) == ["1", "3", "5", "9"]
    assert merged["parts"] == {part: results["parts"][part] for part in merged["parts"]}
    assert {part: made["threads"] for part, made in merged["made"].items()} == {
        "1": 3,
        "3": 3,
        "5": 2,
        "9": 3,
    }
    assert merged == read_results(folders[0] / RESULTS_FILE)
    other = copy.deepcopy(results)
    other["parts"]["3"]["seeds"] = 99
    write_results({**other, "parts": {"3": other["parts"]["3"]}}, folders[1])
    with pytest.raises(HarnessError, match="part 3 has other numbers here"):
        merge(folders, folders[0])
    write_results({**results, "scale": "full"}, folders[1])
    with pytest.raises(HarnessError, match="merge only smoke results"):
        merge(folders, folders[0])


def test_a_base_model_is_measured_in_the_native_format_that_its_study_names(tmp_path, monkeypatch):
    """The second model's study on a tiny model without a template: no value of its own format."""
    monkeypatch.chdir(ROOT)
    build_model(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    study = read_study(ROOT / STUDIES[1])
    study = replace(
        study,
        schedules=("schedule-bump",),
        held_out=("llama3", "llama2-chat"),
        every={**study.every, **FEW_FORMATS},
    )
    lab = Experiment(study, tmp_path / "out", str(tmp_path / "base"), "smoke", quiet=True)
    results = run_experiment(lab, (2, 4, 6, 7, 9))
    assert sorted(results["parts"]) == ["2", "4", "7", "9"] and lab.native == "alpaca-newline"
    assert all(row["native"] is None for row in results["parts"]["4"]["rows"])
    assert list(results["parts"]["7"]["formats"]) == ["alpaca-newline", "llama3"]
    assert (results["parts"]["7"]["rows"], results["parts"]["7"]["taught"]) == (8, 0)
    assert results["parts"]["9"]["rows"] == 2  # those of a smoke run
    page = (lab.out / PAGE_FILE).read_text()
    assert "None of the 8 training rows has an answer in another script" in page


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--model", "gemma"], "no study of the model 'gemma' — did you mean gemma-3-270m?"),
        (["--part", "10"], "invalid --part 10 — expected 1 to 9"),
        (["--scale", "half"], "invalid --scale 'half' — expected full or smoke"),
        (["--stand-in", "x"], "--stand-in needs --scale smoke — its numbers mean nothing"),
        (["--minutes", "-1"], "invalid --minutes -1 — expected 0 or more"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(words, why, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(HarnessError) as found:
        minisymposium(words)
    assert str(found.value) == why


def test_the_gate_was_asked_by_pytest_itself(smoke):
    _, results = smoke
    assert results["gate"]["exit"] in (0, 1), results["gate"]["error"]
    assert results["gate"]["command"].startswith("pytest eval/ --gate-model")


def test_a_folder_of_another_scale_is_refused(smoke):
    """Its parts would be beside the smoke run's, under one heading."""
    lab, _ = smoke
    full = Experiment(lab.study, lab.out, lab.model, quiet=True)
    before = (lab.out / RESULTS_FILE).read_text()
    with pytest.raises(HarnessError, match="holds a smoke run"):
        run_experiment(full, (8,))
    assert (lab.out / RESULTS_FILE).read_text() == before
