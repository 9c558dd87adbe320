"""The log of a run in trackers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.tracking import check_trackers
from harness.training.config import TrackingConfig
from harness.training.runs.trackers import trackers
from harness.training.start import train
from tests.fake_tracker import keep_trackio
from tests.training.small import small_config


def test_without_trackers_nothing_is_imported_or_written(tiny_model, tmp_path):
    with trackers(small_config(tiny_model, tmp_path)) as track:
        track({"kind": "step", "step": 1, "loss": 1.0})
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_told_before_anything_is_written(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "harness.extras.find_spec", lambda name: None if name == "wandb" else object()
    )
    with pytest.raises(HarnessError, match=r"needs wandb"):
        check_trackers(("wandb",))
    with pytest.raises(HarnessError, match="wandb"):
        train(
            small_config(tiny_model, tmp_path, tracking=TrackingConfig(report_to=("wandb",))),
            quiet=True,
        )
    assert not (tmp_path / "run").exists()


def test_what_trackers_get(tiny_model, tmp_path, monkeypatch):
    """A tracker of accelerate's kind that keeps what it gets; closed even when the run breaks."""
    told = keep_trackio(monkeypatch)
    config = small_config(
        tiny_model, tmp_path, tracking=TrackingConfig(report_to=("trackio",), run_name="mine")
    )
    with pytest.raises(KeyboardInterrupt), trackers(config) as track:
        track({"kind": "step", "step": 3, "loss": 1.5, "supervised_tokens": 7})
        track({"kind": "checkpoint", "step": 3, "recall": {"chatml": 0.25}, "note": "text"})
        raise KeyboardInterrupt
    assert told[0] == ("open", "formatproof", {"name": "mine"})
    assert (
        told[1][1]["optimisation.learning_rate"] == 1e-2
        and told[1][1]["formats.train"] == "('chatml', 'alpaca-newline')"
    )
    assert told[2:] == [
        (3, {"step/loss": 1.5, "step/supervised_tokens": 7}),
        (3, {"checkpoint/recall.chatml": 0.25}),
        "closed",
    ]


@pytest.mark.extras
def test_tensorboard_shows_the_losses_of_metrics_jsonl(tiny_model, tmp_path):
    import warnings

    config = small_config(tiny_model, tmp_path, tracking=TrackingConfig(report_to=("tensorboard",)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        run = train(config, quiet=True).parent
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(run / "tracking" / "run")).Reload().Scalars("step/loss")
    logged = [json.loads(line) for line in Path(run / "metrics.jsonl").read_text().splitlines()]
    assert [(event.step, event.value) for event in found] == [
        (entry["step"], pytest.approx(entry["loss"], rel=1e-6)) for entry in logged
    ]
