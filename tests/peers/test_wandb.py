"""An evaluation and a training are sent to wandb itself, without a network."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main
from harness.training.config import TrackingConfig
from harness.training.start import train
from tests.training.small import small_config

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
CASE = {
    "id": "a",
    "messages": [{"role": "user", "content": "Capital?"}],
    "checks": [{"contains": ["x"]}],
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_an_evaluation(tiny_model, tmp_path):
    (tmp_path / "cases.jsonl").write_text(json.dumps(CASE) + "\n")
    command = ["eval", str(tiny_model), "--formats", "chatml", "--max-new-tokens", "2"]
    command += ["--cases", str(tmp_path / "cases.jsonl"), "--out", str(tmp_path / "out")]
    assert main([*command, "--report-to", "wandb"]) == 0
    assert list((tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb"))


def test_a_training(tiny_model, tmp_path):
    config = small_config(
        tiny_model,
        tmp_path,
        optimisation={"num_train_epochs": 1},
        tracking=TrackingConfig(report_to=("wandb",)),
    )
    run = train(config, quiet=True).parent
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))
