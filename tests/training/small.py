"""A run of seconds on the tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.models import LoadedModel, load
from harness.models.quantisation import Quantisation
from harness.training.config import (
    AdapterConfig,
    CheckpointsConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    OptimisationConfig,
    ScheduleConfig,
    TrainConfig,
)
from harness.training.loop import Trainer
from harness.training.preparation import prepare, run_digest
from harness.training.step.lora import add_control_tokens
from tests.device import chosen_device

ROWS = [
    ("the quick fox?", "over the lazy dog"),
    ("dog", "the brown fox jumps over it"),
    ("capital?", "Oslo."),
    ("What is the dog?", "lazy"),
    ("fox", "quick and brown, the fox"),
]
NF4 = Quantisation(load_in_4bit=True)
INT8 = Quantisation(load_in_8bit=True)
STORED_NF4, STORED_INT8 = (
    pytest.param(q, marks=pytest.mark.extras, id=str(q)) for q in (NF4, INT8)
)
"""For ``parametrize``: bitsandbytes is installed by ``tox -e extras`` alone."""


def sums(count: int) -> list[tuple[str, str]]:
    """Questions with answers that are easily learnt by heart."""
    return [
        (f"What is {n} and {n + 1}?", f"It is {2 * n + 1}, the quick fox.") for n in range(count)
    ]


def load_adapted(model: Path, adapter: Path, **settings) -> LoadedModel:
    """A base with an adapter, in float32 on the tests' device."""
    where = {"dtype": "float32", "device": chosen_device()}
    return load(str(model), adapter=str(adapter), **{**where, **settings})


def write_rows(folder: Path, rows: Iterable[tuple[str, str]]) -> Path:
    """Write rows.jsonl: a conversation for each question and its answer."""
    file = folder / "rows.jsonl"
    conversations = (
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in rows
    )
    file.write_text("".join(json.dumps(conversation) + "\n" for conversation in conversations))
    return file


def small_config(
    model: Path,
    folder: Path,
    *,
    rows=ROWS[:4],
    formats=("chatml", "alpaca-newline"),
    dtype="float32",
    optimisation=None,
    schedule=None,
    adapter=None,
    **sections,
) -> TrainConfig:
    """Settings of the run, with its rows written to ``folder``."""
    sections = {"checkpoints": CheckpointsConfig(save_steps=3), **sections}
    return TrainConfig(
        model=str(model),
        output_dir=str(folder / "run"),
        dtype=dtype,
        adapter=replace(AdapterConfig(lora_r=4, lora_alpha=8), **(adapter or {})),
        data=DataConfig(train=(str(write_rows(folder, rows)),)),
        formats=FormatsConfig(train=formats),
        optimisation=replace(
            OptimisationConfig(
                learning_rate=1e-2, num_train_epochs=6, per_device_train_batch_size=2
            ),
            **(optimisation or {}),
        ),
        schedule=ScheduleConfig(**{"warmup_ratio": 0.1, **(schedule or {})}),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
        **sections,
    )


def make_trainer(config: TrainConfig, quantisation: Quantisation | None = None) -> Trainer:
    loaded = load(
        config.model, dtype=config.dtype, device=chosen_device(), quantisation=quantisation
    )
    ready = prepare(config)
    if config.adapter.train_control_tokens:
        add_control_tokens(loaded, ready.trained)
    return Trainer(
        config,
        loaded,
        ready.encode(loaded.tokenizer, None)[0],
        run_digest(ready, loaded.source.digest),
    )


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """The adapter's trainable tensors by name."""
    named = sorted(trainer.model.named_parameters())
    return {name: weight.detach() for name, weight in named if weight.requires_grad}


def assert_every_element_moves(trainer: Trainer) -> None:
    """Fifty steps move every element of every factor A, and all factors stay float32."""
    before = {name: weight.clone() for name, weight in weights_of(trainer).items()}
    for number in range(50):
        trainer.step(number, 0.0)
    for name, weight in weights_of(trainer).items():
        assert weight.dtype == torch.float32
        if "lora_A" in name:
            assert (weight != before[name]).float().mean() > 0.99, name
