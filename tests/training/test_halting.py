"""A run under limits ends where the log says so; an interrupted one ends at the same step."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.run_file import read_metrics
from harness.training.config import (
    CheckpointsConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    OptimisationConfig,
    StoppingConfig,
    TrainConfig,
)
from harness.training.start import train
from tests.training.interrupted import interrupt
from tests.training.small import write_rows

#: What a made-up measure gives at steps 0, 1, 2, …: best at step 2.
CURVE = [2.0, 1.5, 1.2, 1.3, 1.25, 1.4, 1.5, 1.6, 1.7, 1.8]


@pytest.fixture
def config(tiny_model, tmp_path, monkeypatch):
    rows = write_rows(tmp_path, [(f"dog {n}", "fox") for n in range(4)])

    class Made:
        """Replaces the metrics, which have tests of their own."""

        def __init__(self, *_args):
            pass

        def __call__(self, step):
            return {"nll_held_out": CURVE[step]}

    monkeypatch.setattr("harness.training.selection.checkpoint_eval.CheckpointMeasure", Made)
    return TrainConfig(
        model=str(tiny_model),
        output_dir=str(tmp_path / "run"),
        dtype="float32",
        data=DataConfig(train=(str(rows),)),
        formats=FormatsConfig(train=("chatml",)),
        optimisation=OptimisationConfig(max_steps=9, per_device_train_batch_size=2),
        evaluation=EvaluationConfig(references=1),
        checkpoints=CheckpointsConfig(save_steps=1),
        stopping=StoppingConfig(early_stopping_patience=3),
    )


def test_a_stopped_run_says_why_in_its_last_line_and_in_run_json(config, capsys):
    run = train(config, quiet=True).parent
    why = "nll_held_out has not been better than 1.2 (step 2) at 3 checkpoints"
    assert read_metrics(run)[-1] == {"kind": "stopped", "step": 5, "why": why}
    assert json.loads((run / "run.json").read_text())["stopped"] == {"step": 5, "why": why}
    assert f"stopped at step 5: {why}" in capsys.readouterr().err
    assert (run / "adapter" / "adapter_model.safetensors").is_file()


def test_an_interrupted_run_keeps_its_patience(config, monkeypatch):
    """Two of the three checkpoints without a gain were before the interruption."""
    interrupt(config, monkeypatch, stop_at=4)
    run = train(config, quiet=True).parent
    assert read_metrics(run)[-1]["step"] == 5
    assert [e["step"] for e in read_metrics(run) if e["kind"] == "checkpoint"] == [0, 1, 2, 3, 4, 5]


def test_marks_are_logged_and_the_run_goes_on(config):
    config = replace(config, stopping=StoppingConfig(max_nll_rise=0.15, on_limit="mark"))
    run = train(config, quiet=True).parent
    marked = {e["step"]: e["marks"] for e in read_metrics(run) if "marks" in e}
    assert min(marked) == 5 and len(marked) == 5
    assert marked[5] == ["rise of held-out NLL 0.2 since step 2, over 0.15"]
    assert (
        read_metrics(run)[-1]["step"] == 9
        and json.loads((run / "run.json").read_text())["stopped"] is None
    )


def test_with_other_limits_a_stopped_run_goes_on(config):
    train(config, quiet=True)
    assert read_metrics(train(config, quiet=True).parent)[-1]["kind"] == "stopped", (
        "the same settings: nothing is done"
    )
    run = train(replace(config, stopping=StoppingConfig()), quiet=True).parent
    steps = [e["step"] for e in read_metrics(run) if e["kind"] == "step"]
    assert steps == list(range(1, 10)) and read_metrics(run)[-1]["kind"] == "checkpoint"


def test_each_step_logs_its_rates_and_its_formats(config):
    config = replace(
        config,
        stopping=StoppingConfig(),
        optimisation=replace(
            config.optimisation, loraplus_lr_ratio=4.0, compensate_alpha=16.0, learning_rate=1e-3
        ),
    )
    steps = [e for e in read_metrics(train(config, quiet=True).parent) if e["kind"] == "step"]
    for step in steps:
        assert step["lr_A"] == step["learning_rate"]
        assert step["s_lr_B"] == pytest.approx(step["lr_A"] * 4 * 16 / 32 * 32 / 16)
        assert step["formats"]["chatml"]["tokens"] == step["supervised_tokens"]
        assert step["formats"]["chatml"]["loss"] == pytest.approx(step["loss"], rel=1e-5)
    assert steps[-1]["sum_lr"] == pytest.approx(sum(s["lr_A"] for s in steps))


def test_a_compensated_alpha_trains_alike(config):
    """Adam in float32: alpha 8 and alpha 32 at a quarter of the rate of B, over a whole run."""
    losses = []
    for alpha in (8.0, 32.0):
        run = replace(
            config,
            output_dir=f"{config.output_dir}-{alpha}",
            stopping=StoppingConfig(),
            adapter=replace(config.adapter, lora_alpha=alpha),
        )
        run = replace(
            run, optimisation=replace(run.optimisation, learning_rate=1e-2, compensate_alpha=8.0)
        )
        losses.append(
            [e["loss"] for e in read_metrics(train(run, quiet=True).parent) if e["kind"] == "step"]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0][-1] < losses[0][0]
