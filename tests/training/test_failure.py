"""A training whose numbers are not finite, or no better than guessing, ends and says why."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.cli.main import main
from harness.errors import HarnessError
from harness.models import load, remove_adapter
from harness.training import loop
from harness.training.config import EvaluationConfig, parse_config
from harness.training.start import train
from harness.training.step.failure import TrainingFailedError, refuse_guessing, refuse_not_finite
from harness.training.sweep import run_sweep, sweep_points
from tests.device import chosen_device
from tests.training.small import make_trainer, weights_of


@pytest.fixture
def config(run_config):
    return run_config


@pytest.fixture
def nan_model(tiny_model, tmp_path):
    """The tiny model with one weight of its last layer NaN, as in trl#6668."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "nan_model"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = math.nan
    model.save_pretrained(folder)
    return folder


def test_a_base_with_nan_ends_the_command_with_one_line(config, nan_model, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    recipe = tmp_path / "run.toml"
    recipe.write_text(
        f'model = "{nan_model}"\noutput_dir = "{tmp_path / "bad"}"\n'
        f'[formats]\ntrain = ["chatml"]\n[data]\ntrain = ["{rows}"]\n'
        "[optimisation]\nmax_steps = 2\n[evaluation]\nreferences = 0\nrecall_rows = 0\n"
    )
    assert main(["train", str(recipe)]) == 2
    shown = capsys.readouterr()
    [line] = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert "the loss at step 1 is not finite (nan)" in line
    assert "model.layers.1.mlp.down_proj" in line
    assert "adapter:" not in shown.out and "next:" not in shown.out
    assert not (tmp_path / "bad" / "adapter").exists()
    assert "Traceback" not in shown.err


def test_a_measure_that_is_not_finite_ends_the_run_at_step_0(config, nan_model):
    config = replace(
        config, model=str(nan_model), evaluation=EvaluationConfig(references=2, recall_rows=2)
    )
    with pytest.raises(
        TrainingFailedError, match=r"at step 0 is not finite \(nan\): the base holds NaN"
    ):
        train(config, quiet=True)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_moves_no_weight(config, broken):
    trainer = make_trainer(config)
    trainer.step(0, 0.0)
    before = {name: weight.clone() for name, weight in weights_of(trainer).items()}
    weight = trainer.updater.parameters[0]
    hook = weight.register_hook(lambda gradient: gradient * broken)
    with pytest.raises(TrainingFailedError, match=r"the gradient at step 2 .* learning rate"):
        trainer.step(1, 0.0)
    assert all(torch.equal(before[name], now) for name, now in weights_of(trainer).items())
    hook.remove()
    trainer.step(1, 0.0)  # the control: the same step without the fault


def test_what_was_saved_before_stays_and_no_adapter_is_final(config, monkeypatch):
    real = loop.supervised_loss
    steps = []

    def fails_late(loaded, batch, tally=None):
        steps.append(batch)
        return real(loaded, batch, tally) * (math.inf if len(steps) > 7 else 1)

    original = loop.Trainer.__init__

    def patched(self, *args, **options):
        original(self, *args[:5], fails_late, *args[6:], **options)

    monkeypatch.setattr(loop.Trainer, "__init__", patched)
    with pytest.raises(TrainingFailedError, match=r"step 8 is not finite \(inf\)"):
        train(config, quiet=True)
    folder = Path(config.output_dir)
    names = sorted(path.name for path in folder.glob("checkpoint-*"))
    assert names == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    text = (folder / "metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert not (folder / "adapter").exists()


def test_weights_that_are_not_finite_are_not_written(config, monkeypatch):
    """The last step makes an infinite weight: no later loss would show it."""
    original = loop.Trainer.step

    def overflow(self, number, sum_lr):
        entry = original(self, number, sum_lr)
        if entry.step == self.plan.total_steps:
            self.updater.parameters[0].data[0, 0] = math.inf
        return entry

    monkeypatch.setattr(loop.Trainer, "step", overflow)
    with pytest.raises(TrainingFailedError, match="a weight is NaN or infinite after step 12"):
        train(config, quiet=True)


def test_a_rate_of_100_is_reported_as_diverged(config):
    high = replace(config, optimisation=replace(config.optimisation, learning_rate=100.0))
    with pytest.raises(
        TrainingFailedError, match=r"diverged: .* guessing among 355 tokens .*5\.87"
    ):
        train(high, quiet=True)


GUESSING = math.log(1000)


@pytest.mark.parametrize(
    ("losses", "gradients", "fails"),
    [
        ([2.0] + [GUESSING + 0.001] * 5, [1.0] * 6, True),
        ([2.0] + [GUESSING - 0.001] * 5, [1.0] * 6, False),
        # one bad step among good ones is noise
        ([2.0, 2.0, 2.0, 2.0, 30.0, 2.0], [1.0] * 6, False),
        # random weights begin at guessing, and have gradients
        ([GUESSING + 0.1] * 6, [1.0] * 6, False),
        ([GUESSING - 0.49] + [GUESSING + 0.1] * 5, [1.0] * 6, False),
        ([GUESSING - 0.51] + [GUESSING + 0.1] * 5, [1.0] * 6, True),
        # no gradient is left
        ([GUESSING] * 6, [1.0] + [1e-7] * 5, True),
        ([GUESSING] * 6, [1.0] + [1e-7] * 4 + [1e-5], False),
        ([GUESSING] * 6, [1.0, 1e-5] + [1e-7] * 4, False),
        ([GUESSING - 0.009] * 6, [0.0] * 6, True),
        ([GUESSING - 0.011] * 6, [0.0] * 6, False),
        # all is learnt: no gradient either
        ([2.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 6, False),
        ([], [], False),
    ],
)
def test_guessing_is_told_from_a_bad_step_and_from_random_weights(losses, gradients, fails):
    if fails:
        with pytest.raises(TrainingFailedError, match=r"learning rate \(0\.5 there\)"):
            refuse_guessing(losses, gradients, 1000, 6, 0.5)
    else:
        refuse_guessing(losses, gradients, 1000, 6, 0.5)


@pytest.mark.parametrize(
    ("dtype", "step", "cause"),
    [
        ("float16", 5, "float16 overflows"),
        ("float32", 5, r"learning rate \(0\.3 there\)"),
        ("bfloat16", 1, "the base itself computes it on these rows in bfloat16"),
    ],
)
def test_the_likely_cause(tiny, dtype, step, cause):
    tiny.dtype = dtype
    with pytest.raises(TrainingFailedError, match=cause):
        refuse_not_finite(tiny, step, 0.3, {"the loss": math.nan})
    refuse_not_finite(tiny, step, 0.3, {"the loss": 1e30})


@pytest.mark.parametrize("rate", ["inf", "nan", "1e30", "101", "-1", "0"])
def test_an_impossible_rate_is_refused_when_the_settings_are_read(rate):
    with pytest.raises(HarnessError, match=r"optimisation\.learning_rate"):
        parse_config({"optimisation": {"learning_rate": float(rate)}})


@pytest.mark.parametrize(
    "table",
    [
        {"optimisation": {"weight_decay": math.inf}},
        {"optimisation": {"num_train_epochs": math.inf}},
        {"adapter": {"lora_alpha": math.inf}},
        {"stopping": {"max_recall_excess": math.nan}},
        {"formats": {"mixing": "weighted", "format_weights": {"chatml": math.inf}}},
    ],
)
def test_every_number_of_the_settings_is_finite(table):
    with pytest.raises(HarnessError, match="expected a finite number"):
        parse_config(table)
    parse_config(json.loads(re.sub("Infinity|NaN", "1", json.dumps(table))))


def test_a_sweep_goes_on_after_a_point_that_failed(config, capsys):
    rows = run_sweep(sweep_points(config, {"learning_rate": ["100", "1e-3"]}), quiet=True)
    assert [row["done"] for row in rows] == [False, True]
    assert "diverged" in capsys.readouterr().err


def test_a_failed_run_leaves_the_base_as_it_was(config, tiny_model):
    """The control of the sweep: the base is the same after a failure."""
    loaded = load(str(tiny_model), dtype="float32", device=chosen_device())
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    high = replace(config, optimisation=replace(config.optimisation, learning_rate=100.0))
    with pytest.raises(TrainingFailedError):
        train(high, loaded=loaded, quiet=True)
    remove_adapter(loaded)
    assert all(torch.equal(before[name], now) for name, now in loaded.model.state_dict().items())
