"""Parts 4 and 5: schedules of equal sum and the automatic branch, and what alpha does."""

from __future__ import annotations

import json
from typing import Any

from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.rates import MEASURE
from experiments.minisymposium.reported import at, at_pick, held_out_nll
from experiments.paired import difference
from harness.run_file import NLL_METRICS, measured_checkpoints
from harness.training.auto_branch import ROUNDS_FILE

Entries = list[dict[str, Any]]


def schedules(lab: Experiment) -> dict[str, Any]:
    """Part 4. Each schedule against the constant rate at the same step, and the automatic branch.

    Differences are paired by reference; no run was chosen by these.
    """
    names = (lab.study.constant, *lab.study.schedules)
    logs = {name: measured_checkpoints(lab.run(name)) for name in names}
    last = min(entries[-1]["step"] for entries in logs.values())
    ends = {name: _up_to(entries, last)[-1] for name, entries in logs.items()}
    reported = {name: at(lab, name, end)["items"] for name, end in ends.items()}
    rows = [
        {
            "run": name,
            "shape": _shape(lab, name),
            "step": end["step"],
            "sum_lr": end["sum_lr"],
            "nll": end[MEASURE],
            "native": end.get(NLL_METRICS[2]),
            "against_constant": difference(reported[lab.study.constant], reported[name], "nll"),
            "curve": [
                {key: entry[key] for key in ("step", "sum_lr", MEASURE)}
                for entry in _up_to(logs[name], last)
            ],
        }
        for name, end in ends.items()
    ]
    return {"rows": rows, "auto_branch": automatic(lab)}


def _up_to(entries: Entries, step: int) -> Entries:
    return [entry for entry in entries if entry["step"] <= step]


def _shape(lab: Experiment, name: str) -> str:
    schedule = lab.config(name).schedule
    return schedule.lr_scheduler_type + (
        f" ({schedule.sigmoid_shape})" if schedule.lr_scheduler_type == "sigmoid" else ""
    )


def automatic(lab: Experiment) -> dict[str, Any]:
    """The rounds of the automatic branch, the checkpoint that it chose, and what that gained.

    ``against_trunk`` is the choice less the trunk's picked checkpoint, on references that neither
    was chosen by.
    """
    trunk = lab.run(lab.study.auto_branch)
    facts = json.loads((trunk / ROUNDS_FILE).read_text(encoding="utf-8"))
    chosen = facts["chosen"]
    run = trunk / chosen["run"]
    entry = next(entry for entry in measured_checkpoints(run) if entry["step"] == chosen["step"])
    before = at_pick(lab, lab.study.over)["items"]
    adapter = run / f"checkpoint-{chosen['step']}" if chosen["step"] else None
    after = held_out_nll(lab, f"{chosen['run']} step {chosen['step']}", adapter)
    return {**facts, "nll": entry[MEASURE], "against_trunk": difference(before, after, "nll")}


def alphas(lab: Experiment) -> dict[str, Any]:
    """Part 5. The curves of other alphas, with and without correction, and their largest distance
    from that of the reference. ``difference`` is that of the references at the end."""
    study = lab.study
    names = (study.alpha_reference, *study.alpha_raw, *study.alpha_compensated)
    logs = {name: measured_checkpoints(lab.run(name)) for name in names}
    last = min(entries[-1]["step"] for entries in logs.values())
    reference = {entry["step"]: entry[MEASURE] for entry in logs[study.alpha_reference]}
    common = {
        name: [entry for entry in _up_to(entries, last) if entry["step"] in reference]
        for name, entries in logs.items()
    }
    items = {name: at(lab, name, entries[-1])["items"] for name, entries in common.items()}
    rows = [
        {
            "run": name,
            "alpha": lab.config(name).adapter.lora_alpha,
            "compensated": name in study.alpha_compensated,
            "reference": name == study.alpha_reference,
            "strays": max(abs(entry[MEASURE] - reference[entry["step"]]) for entry in entries),
            "difference": difference(items[study.alpha_reference], items[name], "nll"),
            "curve": [{key: entry[key] for key in ("step", MEASURE)} for entry in entries],
        }
        for name, entries in common.items()
    ]
    return {"rows": rows}
