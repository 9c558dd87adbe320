"""Gradient checkpointing changes memory and nothing else."""

from __future__ import annotations

import pytest
import torch

from harness.training.config import OptimisationConfig
from harness.training.step import gradient_checkpointing
from tests.training.small import STORED_NF4, make_trainer, small_config, weights_of


def checkpoints(trainer) -> bool:
    """Whether the trainer's model recomputes activations."""
    return trainer.model.get_base_model().is_gradient_checkpointing


@pytest.mark.parametrize("stored", [None, STORED_NF4], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_result_is_the_same_with_and_without(tiny_model, tmp_path, stored, dtype):
    runs = []
    for setting in (False, True):
        config = small_config(
            tiny_model,
            tmp_path,
            dtype=dtype,
            adapter={"lora_dropout": 0.1},
            optimisation={"gradient_checkpointing": setting},
        )
        trainer = make_trainer(config, stored)
        assert checkpoints(trainer) is setting
        torch.manual_seed(0)
        runs.append(([trainer.step(number, 0.0).loss for number in range(6)], weights_of(trainer)))
    assert runs[0][0] == runs[1][0]
    for name, weight in runs[0][1].items():
        assert torch.equal(weight, runs[1][1][name]), name
    assert all(weight.abs().sum() > 0 for name, weight in runs[1][1].items() if "lora_B" in name), (
        "every factor had a gradient"
    )


def test_it_keeps_less(tiny_model, tmp_path):
    kept = {}
    for setting in (False, True):
        trainer = make_trainer(
            small_config(tiny_model, tmp_path, optimisation={"gradient_checkpointing": setting})
        )
        kept[setting] = gradient_checkpointing.kept_bytes(trainer.loaded, trainer.model, 100)
    assert kept[True] < 0.6 * kept[False]


def test_the_estimate_is_what_a_long_pass_keeps(tiny_model, tmp_path):
    trainer = make_trainer(small_config(tiny_model, tmp_path))
    real = gradient_checkpointing.kept_bytes(trainer.loaded, trainer.model, 700)
    assert gradient_checkpointing.activation_bytes(
        trainer.loaded, trainer.model, 700
    ) == pytest.approx(real, rel=0.05)


def test_auto_asks_the_memory(tiny_model, tmp_path, monkeypatch):
    assert OptimisationConfig().gradient_checkpointing == "auto"
    config = small_config(tiny_model, tmp_path)
    assert not checkpoints(make_trainer(config))
    monkeypatch.setattr(gradient_checkpointing, "free_bytes", lambda device: 1_000_000)
    assert checkpoints(make_trainer(config))
