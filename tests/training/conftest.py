"""A small run of the tiny model: five rows, three formats, twelve steps."""

from __future__ import annotations

import json

import pytest

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

ROWS = [
    ("the quick fox?", "over the lazy dog"),
    ("dog", "the brown fox jumps over it"),
    ("capital?", "Oslo."),
    ("What is the dog?", "lazy"),
    ("fox", "quick and brown, the fox"),
]


def small_run(folder, model) -> TrainConfig:
    """Settings of the run, with its rows written to ``folder``."""
    file = folder / "rows.jsonl"
    file.write_text(
        "".join(
            json.dumps(
                {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
            )
            + "\n"
            for q, a in ROWS
        )
    )
    return TrainConfig(
        model=str(model),
        output_dir=str(folder / "run"),
        dtype="float32",
        adapter=AdapterConfig(lora_r=4, lora_alpha=8),
        data=DataConfig(train=(str(file),)),
        formats=FormatsConfig(train=("chatml", "alpaca-newline", "llama2-chat")),
        optimisation=OptimisationConfig(
            learning_rate=1e-2, num_train_epochs=4, per_device_train_batch_size=2
        ),
        schedule=ScheduleConfig(warmup_ratio=0.1),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
        checkpoints=CheckpointsConfig(save_steps=2),
    )


@pytest.fixture
def run_config(tiny_model, tmp_path):
    return small_run(tmp_path, tiny_model)


@pytest.fixture(scope="module")
def shared_config(tiny_model, tmp_path_factory):
    """One for all tests of a file: run it once, and copy its folder."""
    return small_run(tmp_path_factory.mktemp("shared"), tiny_model)
