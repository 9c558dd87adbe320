"""Part 9: the longest run at a very low rate that the time allows, towards 600 epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.rates import MEASURE
from experiments.minisymposium.reported import at, summarised
from experiments.minisymposium.symptoms import recall_gain
from experiments.paired import difference
from harness.run_file import measured_checkpoints
from harness.training.selection.best_checkpoint import find_best_checkpoint


def long_run(lab: Experiment) -> dict[str, Any]:
    """The run's curve, what it gained on references, and what its rows gained over controls."""
    name = lab.study.long
    entries = measured_checkpoints(lab.run(name))
    base, end = (at(lab, name, entry) for entry in (entries[0], entries[-1]))
    found = find_best_checkpoint(lab.run(name))
    return {
        "run": name,
        "rate": lab.config(name).optimisation.learning_rate,
        "rows": len(entries[-1].get("recall_items", {}).get("rows", ())),
        "base": summarised(base),
        "end": summarised(end),
        "difference": difference(base["items"], end["items"], "nll"),
        "recall": recall_gain(entries[0], entries[-1]),
        "turn": found.turn_step,
        "recall_from": found.recall_from,
        "curve": [_point(entries[0], entry) for entry in entries],
    }


def _point(start: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    gain = recall_gain(start, entry)
    return {
        **{key: entry[key] for key in ("step", "epoch", "sum_lr", MEASURE)},
        "recall": gain["value"] if gain else None,
    }
