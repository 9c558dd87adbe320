"""The whole experiment on the tiny model: every part, resumed, the same numbers again."""

from __future__ import annotations

import json

import pytest

from experiments.minisymposium.compose import PAGE_FILE, RESULTS_FILE, run_experiment
from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.study import PARTS
from harness.errors import HarnessError
from harness.training.loop import Trainer


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
        "7. Drift",
        "8. The 7B plan",
    ):
        assert title in page
    assert page.count("<svg") == 7 and "<script" not in page and "its numbers mean nothing" in page
    assert results == json.loads((lab.out / RESULTS_FILE).read_text())


def test_a_second_run_trains_and_evaluates_nothing_and_gives_the_same_numbers(smoke, monkeypatch):
    lab, results = smoke
    monkeypatch.setattr(Trainer, "step", lambda *_: 1 / 0)
    again = Experiment(lab.study, lab.folder, lab.out, lab.model, "smoke", quiet=True)
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


def test_one_part_alone_is_the_same_part(smoke, tmp_path):
    lab, results = smoke
    alone = Experiment(lab.study, lab.folder, tmp_path, lab.model, "smoke", quiet=True)
    found = run_experiment(alone, (5,))
    assert sorted(found["parts"]) == ["5"] and found["parts"]["5"] == results["parts"]["5"]


def test_the_gate_was_asked_by_pytest_itself(smoke):
    _, results = smoke
    assert results["gate"]["exit"] in (0, 1), results["gate"]["error"]
    assert results["gate"]["command"].startswith("pytest eval/ --gate-model")


def test_a_folder_of_another_scale_is_refused(smoke):
    """Its parts would be beside the smoke run's, under one heading."""
    lab, _ = smoke
    full = Experiment(lab.study, lab.folder, lab.out, lab.model, quiet=True)
    before = (lab.out / RESULTS_FILE).read_text()
    with pytest.raises(HarnessError, match="holds a smoke run"):
        run_experiment(full, (8,))
    assert (lab.out / RESULTS_FILE).read_text() == before
