"""References that no run was chosen by: what they cost at a checkpoint, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.minisymposium.experiment import Experiment
from experiments.paired import by_case, mean_of
from harness.evaluation.settings import EvalSettings
from harness.run_file import measured_checkpoints
from harness.training.selection.best_checkpoint import find_best_checkpoint


def held_out_nll(lab: Experiment, label: str, adapter: Path | None) -> dict[str, float]:
    """Reference → NLL a token, mean over held-out formats. No choice depends on these items."""
    formats = lab.study.reported or lab.study.held_out
    evaluation = lab.evaluate(
        f"held-out references, {label}",
        adapter,
        ["references"],
        formats=formats,
        limit=lab.study.reference_cases,
        settings=EvalSettings(),
    )
    return by_case(evaluation, "nll", formats=formats)


def at_pick(lab: Experiment, name: str) -> dict[str, Any]:
    """The checkpoint that ``harness pick`` takes, or the turning point where it takes none."""
    found = find_best_checkpoint(lab.run(name))
    step = found.step if found.step is not None else found.turn_step or 0
    entries = measured_checkpoints(lab.run(name))
    return at(lab, name, next(entry for entry in entries if entry["step"] == step))


def at_end(lab: Experiment, name: str) -> dict[str, Any]:
    """The last checkpoint."""
    return at(lab, name, measured_checkpoints(lab.run(name))[-1])


def at(lab: Experiment, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint with its references, item by item. Step 0 is the base, which has no folder."""
    step, run = entry["step"], lab.run(name)
    label = f"{name} step {step}" if step else "base"
    return {
        "run": name,
        "step": step,
        "epoch": entry["epoch"],
        "sum_lr": entry["sum_lr"],
        "end_sum_lr": measured_checkpoints(run)[-1]["sum_lr"],
        "items": held_out_nll(lab, label, run / f"checkpoint-{step}" if step else None),
    }


def summarised(found: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint for the results: the mean in place of the items."""
    return {
        **{key: value for key, value in found.items() if key != "items"},
        "nll": mean_of(found["items"]),
    }
