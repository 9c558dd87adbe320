"""A small run of the tiny model: five rows, three formats, twelve steps."""

from __future__ import annotations

import pytest

from harness.training.config import CheckpointsConfig, TrainConfig
from tests.training.small import ROWS, small_config


def small_run(folder, model) -> TrainConfig:
    """Settings of the run, with its rows written to ``folder``."""
    return small_config(
        model,
        folder,
        rows=ROWS,
        formats=("chatml", "alpaca-newline", "llama2-chat"),
        optimisation={"num_train_epochs": 4},
        checkpoints=CheckpointsConfig(save_steps=2),
    )


@pytest.fixture
def run_config(tiny_model, tmp_path):
    return small_run(tmp_path, tiny_model)


@pytest.fixture(scope="module")
def shared_config(tiny_model, tmp_path_factory):
    """One for all tests of a file: run it once, and copy its folder."""
    return small_run(tmp_path_factory.mktemp("shared"), tiny_model)
