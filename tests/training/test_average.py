"""The mean of checkpoints is the mean of what they add."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.cli.main import main
from harness.errors import HarnessError
from harness.models import load
from harness.training.share.average import average
from harness.training.start import train
from tests.device import chosen_device

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def run(shared_config):
    train(shared_config, quiet=True)
    return Path(shared_config.output_dir)


def added(folder):
    """s·B·A of each layer, in float64."""
    config = json.loads((folder / "adapter_config.json").read_text())
    weights = {name: value.double() for name, value in load_file(folder / WEIGHTS).items()}
    scale = config["lora_alpha"] / config["r"]
    return {
        name: scale * weights[name.replace("lora_A", "lora_B")] @ weights[name]
        for name in weights
        if "lora_A" in name
    }


def test_at_full_rank_the_mean_is_exact(run, tmp_path):
    chosen = [run / f"checkpoint-{step}" for step in (4, 8, 12)]
    made = average(chosen, tmp_path / "mean", rank=12)
    assert made.rank == 12 and made.lost == 0.0
    each = [added(folder) for folder in chosen]
    for name, value in added(tmp_path / "mean").items():
        assert torch.allclose(value, sum(one[name] for one in each) / 3, atol=1e-7), name


def test_cut_to_the_adapters_rank_it_is_the_best_that_numpy_finds(run, tmp_path):
    chosen = [run / f"checkpoint-{step}" for step in (4, 12)]
    made = average(chosen, tmp_path / "mean")
    assert made.rank == 4
    worst = 0.0
    for name, value in added(tmp_path / "mean").items():
        mean = (sum(added(folder)[name] for folder in chosen) / 2).numpy()
        u, s, v = np.linalg.svd(mean, full_matrices=False)
        assert np.allclose(value.numpy(), (u[:, :4] * s[:4]) @ v[:4], atol=1e-6), name
        worst = max(worst, (s[4:] ** 2).sum() / (s**2).sum())
    assert made.lost == pytest.approx(worst, rel=1e-3)


def test_the_command_writes_an_adapter_that_loads(run, tiny_model, tmp_path, capsys):
    assert (
        main(["average", str(run), "--last", "2", "--out", str(tmp_path / "mean"), "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["rank"] == 4
    assert load(
        str(tiny_model), adapter=str(tmp_path / "mean"), dtype="float32", device=chosen_device()
    ).lean_lora
    assert main(["average", str(run), "--last", "2", "--steps", "4"]) == 2
    assert main(["average", str(run), "--steps", "4"]) == 2
    assert "two checkpoints or more" in capsys.readouterr().err


def test_unlike_adapters_are_refused(run, tmp_path):
    other = Path(shutil.copytree(run / "checkpoint-8", tmp_path / "other"))
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 99}))
    with pytest.raises(HarnessError, match="another base, shape or lora_alpha"):
        average([run / "checkpoint-4", other], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
