"""Adapters of SmolLM2-135M, trained on short rows, four at a step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.training.config import (
    AdapterConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    OptimisationConfig,
    TrainConfig,
)
from harness.training.start import train

MODEL = "SmolLM2-135M-Instruct"


def train_adapter(
    folder: Path,
    seed: int,
    data: DataConfig,
    formats: Sequence[str],
    rate: float = 1e-3,
    rank: int = 16,
    steps: int = 40,
) -> Path:
    """Train an adapter, and return the folder of the run."""
    config = TrainConfig(
        model=MODEL,
        output_dir=str(folder),
        seed=seed,
        adapter=AdapterConfig(lora_r=rank, lora_alpha=2 * rank),
        data=data,
        formats=FormatsConfig(train=tuple(formats)),
        optimisation=OptimisationConfig(
            learning_rate=rate, max_steps=steps, per_device_train_batch_size=4
        ),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
    )
    train(config, quiet=True)
    return folder
