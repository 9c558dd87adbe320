"""QLoRA on the real SmolLM2-135M-Instruct, on the CPU: it learns, it moves at 1e-7, it takes a
quarter, it merges.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.models import describe_base, load
from harness.training.runs.checkpoints import save_adapter
from harness.training.share.merge import compare, merge, probe
from tests.device import chosen_device
from tests.training.small import NF4, make_trainer, small_config, weights_of

pytestmark = pytest.mark.slow
MODEL = "SmolLM2-135M-Instruct"


@pytest.fixture
def config(tmp_path):
    steps = {
        "optimisation": {"learning_rate": 1e-3, "num_train_epochs": 25},
        "schedule": {"lr_scheduler_type": "constant", "warmup_ratio": 0.0},
    }
    return replace(
        small_config(
            MODEL,
            tmp_path,
            formats=("smollm2", "llama3"),
            dtype="auto",
            adapter={"lora_r": 8},
            **steps,
        ),
        model=MODEL,
    )


def test_the_base_takes_a_quarter_and_the_loss_falls_and_it_merges(config, tmp_path):
    trainer = make_trainer(config, NF4)
    layers = [
        module
        for module in trainer.model.modules()
        if type(module).__name__ == "Linear4bit"
        and type(module).__module__.startswith("bitsandbytes")
    ]
    stored = sum(
        m.weight.nbytes
        + m.weight.quant_state.absmax.nbytes
        + m.weight.quant_state.state2.absmax.nbytes
        for m in layers
    )
    assert (
        len(layers) == 210
        and 0.25 < stored / sum(2 * m.in_features * m.out_features for m in layers) < 0.27
    )
    losses = [trainer.step(number, 0.0).loss for number in range(8)]
    assert sum(losses[-2:]) < 0.7 * sum(losses[:2])
    adapter = tmp_path / "adapter"
    save_adapter(trainer.model, adapter, describe_base(trainer.loaded))
    done = merge(adapter, MODEL, tmp_path / "merged", "float32")
    assert done.agreement.divergence < 1e-6 and done.agreement.same_token == 1.0
    whole = probe(load(str(tmp_path / "merged"), dtype="float32", device=chosen_device()))
    wrong = compare(
        whole, probe(load(MODEL, adapter=str(adapter), dtype="float32", device=chosen_device()))
    )
    print(losses, done.agreement, "on the 16-bit base", wrong)
    assert wrong.divergence > 0.02


def test_every_element_moves_at_1e_7(config):
    trainer = make_trainer(
        replace(config, optimisation=replace(config.optimisation, learning_rate=1e-7)), NF4
    )
    before = {
        name: weight.clone() for name, weight in weights_of(trainer).items() if "lora_A" in name
    }
    for number in range(50):
        trainer.step(number, 0.0)
    moved = {
        name: (weights_of(trainer)[name] != weight).float().mean().item()
        for name, weight in before.items()
    }
    print("least moved", min(moved.values()))
    assert min(moved.values()) > 0.99
    assert torch.float32 == weights_of(trainer)[next(iter(before))].dtype
