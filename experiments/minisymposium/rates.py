"""Parts 1, 3, 4 and 5: the effects of the learning rate, its schedule and alpha.

Read from the runs' own logs, and from references that no run was chosen by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.paired import as_dict, by_case, difference, mean_of
from harness.evaluation.settings import EvalSettings
from harness.metrics.registry import METRICS
from harness.run_file import NLL_METRICS, items_key_of, measured_checkpoints
from harness.training.auto_branch import ROUNDS_FILE
from harness.training.selection.best_checkpoint import find_best_checkpoint
from harness.training.sweep import SweepPoint, sweep_rows

MEASURE = NLL_METRICS[0]
#: A checkpoint is good when its held-out NLL is within this share of the lowest on the map.
GOOD = 0.01
RATE = "optimisation.learning_rate"


def rate_map(lab: Experiment) -> dict[str, Any]:
    """Part 1. Every run of the map with its curve and its region. ``rows`` are those of a sweep."""
    rows = sweep_rows(
        [
            SweepPoint({RATE: f"{lab.config(name).optimisation.learning_rate:g}"}, lab.config(name))
            for name in lab.study.map
        ]
    )
    for name, row in zip(lab.study.map, rows, strict=True):
        row |= {
            "run": name,
            "rate": lab.config(name).optimisation.learning_rate,
            **_ends(row["curve"]),
        }
    lowest = min(row["lowest"] for row in rows)
    for row in rows:
        row["region"] = _region(row, lowest)
    picks = [row["pick_value"] for row in rows if row["pick_value"] is not None]
    best = min(rows, key=lambda row: row["lowest"])
    return {
        "rows": rows,
        "lowest": lowest,
        "lowest_run": best["run"],
        "lowest_step": best["lowest_step"],
        "pick": min(picks) if picks else None,
        "pick_short_of_lowest": min(picks) / lowest - 1 if picks else None,
        "start": rows[0]["curve"][0][MEASURE],
    }


def _ends(curve: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    best = min(curve, key=lambda point: point[MEASURE])
    return {
        "lowest": best[MEASURE],
        "lowest_step": best["step"],
        "lowest_sum_lr": best["sum_lr"],
        "sum_lr": curve[-1]["sum_lr"],
    }


def _region(row: dict[str, Any], lowest: float) -> str:
    """Over-trained: it has a turning point. Good: none, and it ends near the map's lowest."""
    row["pick_value"] = next(
        (point[MEASURE] for point in row["curve"] if point["step"] == row.get("pick")), None
    )
    if row.get("turn") is not None:
        return "over-trained at its end"
    return (
        "good at its end" if row["curve"][-1][MEASURE] <= lowest * (1 + GOOD) else "under-trained"
    )


def patience(lab: Experiment) -> dict[str, Any]:
    """Part 3. The best checkpoint of the low rate less that of the high one, over seeds.

    Measured by held-out NLL on the evaluation's references. The checkpoint of the low run whose
    Σ learning rate is nearest to that of the high pick is compared as well: an equal Σ, reached
    more slowly.
    """
    import numpy as np

    pairs, columns = [], []
    for number, (high, low) in enumerate(lab.study.pairs):
        fast, slow = _at_pick(lab, high), _at_pick(lab, low)
        equal = _at(lab, low, _nearest(measured_checkpoints(lab.run(low)), fast["sum_lr"]))
        columns.append(
            {
                case: slow["items"][case] - value
                for case, value in fast["items"].items()
                if case in slow["items"]
            }
        )
        told = {
            "high": _told(fast),
            "low": _told(slow),
            "difference": difference(fast["items"], slow["items"], "nll"),
        }
        pairs.append(
            {
                "seed": number,
                **told,
                "equal": _told(equal),
                "equal_difference": difference(fast["items"], equal["items"], "nll"),
            }
        )
    table = np.array([[column[case] for column in columns] for case in columns[0]])
    return {
        "pairs": pairs,
        "difference": as_dict(METRICS["nll"].difference(table)),
        "seeds": len(pairs),
        "items": len(table),
    }


def _nearest(entries: Sequence[dict[str, Any]], sum_lr: float) -> dict[str, Any]:
    """The checkpoint whose Σ learning rate is nearest."""
    return min(entries, key=lambda entry: abs(entry["sum_lr"] - sum_lr))


def _at_pick(lab: Experiment, name: str) -> dict[str, Any]:
    found = find_best_checkpoint(lab.run(name))
    step = found.step if found.step is not None else found.turn_step or 0
    return _at(
        lab,
        name,
        next(entry for entry in measured_checkpoints(lab.run(name)) if entry["step"] == step),
    )


def _at(lab: Experiment, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint with its references, item by item. Step 0 is the base, which has no folder."""
    step = entry["step"]
    items = held_out_nll(
        lab, f"{name} step {step}", lab.run(name) / f"checkpoint-{step}" if step else None
    )
    return {
        "run": name,
        "step": step,
        "sum_lr": entry["sum_lr"],
        "end_sum_lr": measured_checkpoints(lab.run(name))[-1]["sum_lr"],
        "items": items,
    }


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: value for key, value in found.items() if key != "items"},
        "nll": mean_of(found["items"]),
    }


def held_out_nll(lab: Experiment, label: str, adapter: Path | None) -> dict[str, float]:
    """Reference → NLL a token, mean over held-out formats. No choice depends on these items."""
    evaluation = lab.evaluate(
        f"references, {label}", adapter, ["references"], settings=EvalSettings()
    )
    return by_case(evaluation, "nll", formats=lab.study.held_out)


def schedules(lab: Experiment) -> dict[str, Any]:
    """Part 4. Each schedule against the constant rate at the same step, and the automatic branch.

    Differences are paired by item of the development references.
    """
    logs = {
        name: measured_checkpoints(lab.run(name))
        for name in (lab.study.constant, *lab.study.schedules)
    }
    last = min(entries[-1]["step"] for entries in logs.values())
    ends = {
        name: next(entry for entry in reversed(entries) if entry["step"] <= last)
        for name, entries in logs.items()
    }
    reference = ends[lab.study.constant]
    rows = [
        {
            "run": name,
            "shape": _shape(lab, name),
            "step": end["step"],
            "sum_lr": end["sum_lr"],
            "nll": end[MEASURE],
            "native": end[NLL_METRICS[2]],
            "against_constant": difference(
                reference[items_key_of(MEASURE)], end[items_key_of(MEASURE)], "nll"
            ),
            "curve": [
                {key: entry[key] for key in ("step", "sum_lr", MEASURE)}
                for entry in logs[name]
                if entry["step"] <= last
            ],
        }
        for name, end in ends.items()
    ]
    return {"rows": rows, "auto_branch": automatic(lab)}


def _shape(lab: Experiment, name: str) -> str:
    schedule = lab.config(name).schedule
    return schedule.lr_scheduler_type + (
        f" ({schedule.sigmoid_shape})" if schedule.lr_scheduler_type == "sigmoid" else ""
    )


def automatic(lab: Experiment) -> dict[str, Any]:
    """The rounds of the automatic branch, and the held-out NLL of the checkpoint that it chose."""
    trunk = lab.run(lab.study.auto_branch)
    facts = json.loads((trunk / ROUNDS_FILE).read_text(encoding="utf-8"))
    chosen = facts["chosen"]
    run = trunk / chosen["run"]
    value = next(
        entry[MEASURE] for entry in measured_checkpoints(run) if entry["step"] == chosen["step"]
    )
    return {**facts, "nll": value}


def alphas(lab: Experiment) -> dict[str, Any]:
    """Part 5. The curves of other alphas, with and without correction, and their largest distance
    from that of the reference."""
    study = lab.study
    logs = {
        name: measured_checkpoints(lab.run(name))
        for name in (study.alpha_reference, *study.alpha_raw, *study.alpha_compensated)
    }
    reference = {entry["step"]: entry[MEASURE] for entry in logs[study.alpha_reference]}
    rows = []
    for name, entries in logs.items():
        common = [
            entry
            for entry in entries
            if entry["step"] in reference
            and entry["step"] <= min(logs[other][-1]["step"] for other in logs)
        ]
        rows.append(
            {
                "run": name,
                "alpha": lab.config(name).adapter.lora_alpha,
                "compensated": name in study.alpha_compensated,
                "reference": name == study.alpha_reference,
                "strays": max(abs(entry[MEASURE] - reference[entry["step"]]) for entry in common),
                "curve": [{key: entry[key] for key in ("step", MEASURE)} for entry in common],
            }
        )
    return {"rows": rows}
