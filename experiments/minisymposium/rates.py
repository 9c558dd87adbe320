"""Parts 1 and 3: the map of learning rates and epochs, and what patience is worth.

Read from the runs' own logs, and from references that no run was chosen by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.reported import at, at_end, at_pick, summarised
from experiments.paired import as_dict, difference
from harness.metrics.registry import METRICS
from harness.run_file import NLL_METRICS, measured_checkpoints
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
    more slowly. ``stopping`` is the end of the high run less its pick.
    """
    pairs = []
    items: dict[str, list[dict[str, float]]] = {"low": [], "end": [], "high": []}
    for number, (high, low) in enumerate(lab.study.pairs):
        fast, slow, end = at_pick(lab, high), at_pick(lab, low), at_end(lab, high)
        equal = at(lab, low, _nearest(measured_checkpoints(lab.run(low)), fast["sum_lr"]))
        for key, found in (("high", fast), ("low", slow), ("end", end)):
            items[key].append(found["items"])
        pairs.append(
            {
                "seed": number,
                "high": summarised(fast),
                "low": summarised(slow),
                "end": summarised(end),
                "equal": summarised(equal),
                "difference": difference(fast["items"], slow["items"], "nll"),
                "equal_difference": difference(fast["items"], equal["items"], "nll"),
            }
        )
    return {
        "pairs": pairs,
        "difference": _over_seeds(items["high"], items["low"]),
        "stopping": _over_seeds(items["high"], items["end"]),
        "seeds": len(pairs),
        "items": len(items["high"][0]),
    }


def _over_seeds(
    before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Mean of after − before over seeds and items, with the items as clusters."""
    import numpy as np

    cases = [case for case in before[0] if all(case in side for side in (*before, *after))]
    pairs = list(zip(before, after, strict=True))
    table = np.array([[late[case] - early[case] for early, late in pairs] for case in cases])
    return as_dict(METRICS["nll"].difference(table))


def _nearest(entries: Sequence[dict[str, Any]], sum_lr: float) -> dict[str, Any]:
    """The checkpoint whose Σ learning rate is nearest."""
    return min(entries, key=lambda entry: abs(entry["sum_lr"] - sum_lr))
