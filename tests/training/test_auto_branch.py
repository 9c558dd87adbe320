"""Trunk, turning point, branch: the same steps as by hand, and finished runs are reused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.run_file import (
    RunMetadata,
    measured_checkpoints,
    read_metrics,
    write_run_metadata,
)
from harness.training.auto_branch import _compare_with_best, auto_branch
from harness.training.config import (
    AutoBranchConfig,
    EvaluationConfig,
    FormatsConfig,
    ScheduleConfig,
    TrainConfig,
)
from harness.training.loop import Trainer
from harness.training.runs.metrics_log import MetricsLog
from harness.training.runs.run_tree import run_tree
from harness.training.selection.checkpoint_eval import CheckpointMeasure
from harness.training.start import resume, train

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def config(run_config):
    return replace(
        run_config,
        formats=FormatsConfig(train=("chatml", "alpaca-newline"), held_out=("llama3",)),
        evaluation=EvaluationConfig(references=6, formats_measured=1, recall_rows=0),
        optimisation=replace(run_config.optimisation, num_train_epochs=6),
        schedule=ScheduleConfig(lr_scheduler_type="constant", warmup_ratio=0.0),
        auto_branch=AutoBranchConfig(branch_at_turn=True, branch_rounds=2),
    )


@pytest.fixture
def bowl(monkeypatch):
    """Metrics as of a high rate: NLL falls to a floor that a lower rate lowers further, and rises
    after 1 + rounds checkpoints."""

    def measure(self, step):
        rate = self.rate
        floor = {1e-2: 1.5, 1e-3: 1.2, 1e-4: 1.2}[rate]
        turn = {1e-2: 6, 1e-3: 10, 1e-4: 14}[rate]
        items = {
            f"i{n}": floor + 0.05 * abs(step - turn) + 0.1 * n + 0.001 * ((n * 5 + step) % 3)
            for n in range(8)
        }
        return {"nll_held_out": sum(items.values()) / 8, "nll_items_held_out": items}

    original = CheckpointMeasure.__init__

    def note_rate(self, ready, trained_on, loaded):
        original(self, ready, trained_on, loaded)
        self.rate = round(ready.config.optimisation.learning_rate, 9)

    monkeypatch.setattr(CheckpointMeasure, "__init__", note_rate)
    monkeypatch.setattr(CheckpointMeasure, "__call__", measure)


def test_it_stops_at_the_turn_goes_back_and_continues_at_a_tenth(config, bowl):
    chosen = train(config, quiet=True)
    trunk = Path(config.output_dir)
    facts = json.loads((trunk / "auto_branch.json").read_text())
    assert [(r["run"], round(r["learning_rate"], 9), r["step"]) for r in facts["rounds"]] == [
        (".", 1e-2, 6),
        ("branches/auto-1", 1e-3, 10),
        ("branches/auto-2", 1e-4, 10),
    ]
    assert facts["rounds"][1]["gain"] == pytest.approx(0.3, abs=0.01)
    assert facts["chosen"] == {
        "run": "branches/auto-1",
        "step": 10,
    }  # the second round gained nothing
    assert "nothing gained" in facts["rounds"][2]["why"]
    assert (chosen / WEIGHTS).read_bytes() == (
        trunk / "branches" / "auto-1" / "checkpoint-10" / WEIGHTS
    ).read_bytes()
    stopped = [entry for entry in read_metrics(trunk) if entry["kind"] == "stopped"]
    assert len(stopped) == 1 and stopped[0]["step"] < 18 and "turned at step 6" in stopped[0]["why"]
    tree = run_tree(trunk)
    assert (
        tree.state == "stopped"
        and tree.children[0].branched_at == 6
        and tree.children[0].children[0].branched_at == 10
    )


def test_started_anew_it_finds_its_runs_and_trains_nothing(config, bowl, monkeypatch):
    first = train(config, quiet=True)
    before = (first / WEIGHTS).read_bytes()
    monkeypatch.setattr(Trainer, "step", lambda *a: pytest.fail("trained again"))
    assert resume(Path(config.output_dir), quiet=True) == first
    assert (first / WEIGHTS).read_bytes() == before


def test_interrupted_anywhere_it_ends_the_same(config, bowl, monkeypatch, tmp_path):
    whole = train(replace(config, output_dir=str(tmp_path / "whole")), quiet=True)
    original, left = Trainer.step, [0]

    def stop_now_and_then(self, number, sum_lr):
        left[0] += 1
        if left[0] % 7 == 0:
            raise KeyboardInterrupt
        return original(self, number, sum_lr)

    monkeypatch.setattr(Trainer, "step", stop_now_and_then)
    for _ in range(20):
        try:
            chosen = train(config, quiet=True)
            break
        except KeyboardInterrupt:
            continue
    assert (chosen / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert json.loads((chosen.parent / "auto_branch.json").read_text()) == json.loads(
        (whole.parent / "auto_branch.json").read_text()
    )


def test_a_finished_run_can_be_branched_later(config, bowl):
    plain = replace(config, auto_branch=AutoBranchConfig())
    over = train(plain, quiet=True)
    assert len(measured_checkpoints(over.parent)) == 10  # to the end: nothing watched for the turn
    assert train(config, quiet=True).name == "chosen"


@pytest.mark.parametrize(("errors", "better"), [(0.8, False), (1.2, True)])
def test_a_branch_is_better_if_it_gains_more_than_one_standard_error(tmp_path, errors, better):
    noise = np.array([-1.0, 1.0, -1.0, 1.0])
    gains = noise + errors * noise.std(ddof=1) / 2
    start = {f"i{n}": 3.0 for n in range(4)}
    lower = {item: value - gain for (item, value), gain in zip(start.items(), gains, strict=True)}
    for name, curve in (("trunk", [start]), ("branch", [start, lower])):
        metadata = RunMetadata("sha256:0", (), (), (), TrainConfig().as_dict())
        write_run_metadata(tmp_path / name, metadata)
        with MetricsLog(tmp_path / name, after=0) as metrics_log:
            for step, items in enumerate(curve):
                mean = float(np.mean(list(items.values())))
                entry = {"kind": "checkpoint", "step": step, "nll_held_out": mean}
                metrics_log.write({**entry, "nll_items_held_out": items})
    best = (tmp_path / "trunk", 0)
    made, gained = _compare_with_best(tmp_path / "branch", 1, "nll_held_out", best)
    assert made.step == 1 and made.gain == pytest.approx(errors * made.gain_error)
    assert gained is better


def test_settings_under_which_no_turn_can_be_seen_are_refused(config):
    with pytest.raises(HarnessError, match=r"needs formats\.held_out"):
        auto_branch(replace(config, formats=FormatsConfig(train=("chatml",))))
    with pytest.raises(HarnessError, match="needs references"):
        auto_branch(replace(config, evaluation=EvaluationConfig(references=0)))
    with pytest.raises(HarnessError, match="returns to earlier checkpoints"):
        auto_branch(replace(config, checkpoints=replace(config.checkpoints, save_total_limit=2)))
