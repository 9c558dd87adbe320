"""Interrupt a run, resume it, and compare it with an uninterrupted one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.training.config import TrainConfig
from harness.training.loop import Trainer
from harness.training.start import train


def interrupt(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    """Train until before step number ``stop_at``."""
    original = Trainer.step

    def stop(self, number, sum_lr):
        if number == stop_at:
            raise KeyboardInterrupt
        return original(self, number, sum_lr)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, quiet=True)


def assert_ends_like_uninterrupted(
    config: TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> Path:
    """Train once uninterrupted, and once interrupted before step number ``stop_at``: both end in
    the same bytes. Returns the second run's folder."""
    whole = train(replace(config, output_dir=str(folder / "whole")), quiet=True)
    broken = replace(config, output_dir=str(folder / "broken"))
    interrupt(broken, monkeypatch, stop_at)
    resumed = train(broken, quiet=True)
    assert (resumed / "adapter_model.safetensors").read_bytes() == (
        whole / "adapter_model.safetensors"
    ).read_bytes()
    return resumed.parent
