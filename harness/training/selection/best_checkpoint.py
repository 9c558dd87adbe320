"""Which checkpoint of a run to take, and why.

It is the last good one before held-out NLL rises, or before recall exceeds its null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.run_file import (
    NLL_METRICS,
    first_logged,
    items_key_of,
    measured_checkpoints,
    require_run_metadata,
)
from harness.training.runs.checkpoints import checkpoint_dirs, step_of
from harness.training.runs.run_tree import root_of
from harness.training.selection.memorisation import controls_of, leaves_null
from harness.training.selection.turning_point import RESAMPLES, TurningPoint, find_turning_point

RECALL = "recall"


@dataclass(frozen=True, slots=True)
class BestCheckpoint:
    """The checkpoint to take, the turning point if there is one, and the reason."""

    run: str
    measure: str
    """The metric that decided."""
    step: int | None
    """None: no checkpoint is good."""
    epoch: float | None
    value: float | None
    """The metric at ``step``."""
    turned: bool
    turn_step: int | None
    turn_range: tuple[int, int] | None
    recall_from: int | None
    """The first step at which training answers are known better than controls."""
    checkpoint: str | None
    """The newest checkpoint on the disk up to ``step``."""
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def find_best_checkpoint(
    run: Path, metric: str = "", *, margin: float = 1.0, seed: int = 0, resamples: int = RESAMPLES
) -> BestCheckpoint:
    """Find the last good checkpoint of a run by one of NLL_METRICS, or by "recall".

    Without ``metric``, by the first of NLL_METRICS that was logged. Raises HarnessError when fewer
    than two checkpoints were measured by item.
    """
    require_run_metadata(run)
    entries = measured_checkpoints(run)
    metric = metric or first_logged(entries, items=True) or NLL_METRICS[0]
    recall_from = _recall_from(run, entries, seed)
    if metric == RECALL:
        return _by_recall(run, entries, recall_from)
    turn = turning_point_of(
        entries, metric, margin=margin, seed=seed, resamples=resamples, where=str(run)
    )
    at = turn.back if turn.rises else turn.at
    steps = [int(entry["step"]) for entry in entries]
    reason = _reason(metric, entries, turn, resamples)
    if recall_from is not None:
        reason += f" Training answers are known better than controls from step {recall_from} on."
    return _result(
        run,
        metric,
        entries[at] if at > 0 or _on_disk(run, steps[at]) else None,
        reason,
        recall_from,
        turned=turn.rises,
        turn_step=steps[turn.at] if turn.rises else None,
        turn_range=(steps[turn.low], steps[turn.high]),
    )


def turning_point_of(
    entries: Sequence[dict[str, Any]],
    metric: str,
    *,
    margin: float = 1.0,
    seed: int = 0,
    resamples: int = RESAMPLES,
    where: str = "",
) -> TurningPoint:
    """The turning point of a metric over measured checkpoints, from the items that all have."""
    import numpy as np

    if metric not in NLL_METRICS:
        raise HarnessError(
            f"no turning point can be found in {metric!r}",
            where=where,
            hint="choose one of " + ", ".join((*NLL_METRICS, RECALL)),
        )
    key = items_key_of(metric)
    if len(entries) < 2 or not all(key in entry for entry in entries):
        raise HarnessError(
            f"fewer than two checkpoints with {metric} by item",
            where=where,
            hint="set evaluation.references above 0, name formats.held_out, and save more often",
        )
    items = [item for item in entries[0][key] if all(item in entry[key] for entry in entries)]
    table = np.array([[entry[key][item] for entry in entries] for item in items])
    return find_turning_point(table, margin=margin, seed=seed, resamples=resamples)


def _recall_from(run: Path, entries: Sequence[dict[str, Any]], seed: int) -> int | None:
    """The first step that knows its training answers better than controls.

    Compared with the start of the whole tree.
    """
    start = measured_checkpoints(root_of(run))[:1]
    if not start or "recall_items" not in start[0]:
        return None
    before = start[0]["recall_items"]
    for entry in entries:
        if "recall_items" in entry and leaves_null(before, entry["recall_items"], seed=seed):
            return int(entry["step"])
    return None


def _by_recall(
    run: Path, entries: Sequence[dict[str, Any]], recall_from: int | None
) -> BestCheckpoint:
    if not any("recall_items" in entry for entry in entries):
        raise HarnessError(
            "no recall was measured", where=str(run), hint="set evaluation.recall_rows above 0"
        )
    if not any(controls_of(entry.get("recall_items", {})) for entry in entries):
        raise HarnessError(
            "no controls were measured: what is memory of the gain is not known",
            where=str(run),
            hint="set data.controls above 0 and train again",
        )
    if recall_from is None:
        reason = "Training answers are known no better than controls at any checkpoint."
        return _result(run, RECALL, entries[-1], reason, None)
    earlier = [entry for entry in entries if entry["step"] < recall_from]
    last = earlier[-1] if earlier else None
    good = last if last and (last["step"] > 0 or _on_disk(run, last["step"])) else None
    reason = (
        f"Training answers are known better than controls from step {recall_from} on, "
        "more than exchanging the two explains (95 %)."
    )
    turn_step = last["step"] if last else None
    return _result(run, RECALL, good, reason, recall_from, turned=True, turn_step=turn_step)


def _result(
    run: Path,
    metric: str,
    entry: dict[str, Any] | None,
    reason: str,
    recall_from: int | None,
    *,
    turned: bool = False,
    turn_step: int | None = None,
    turn_range: tuple[int, int] | None = None,
) -> BestCheckpoint:
    folders: list[Path] = []
    value = entry.get(metric) if entry else None
    if entry:
        folders = [path for path in checkpoint_dirs(run) if step_of(path) <= entry["step"]]
    else:
        reason += " No checkpoint lies before it: lower the rate, or save earlier."
    return BestCheckpoint(
        str(run),
        metric,
        int(entry["step"]) if entry else None,
        float(entry["epoch"]) if entry else None,
        float(value) if isinstance(value, float) else None,
        turned,
        turn_step,
        turn_range,
        recall_from,
        str(folders[-1]) if folders else None,
        reason,
    )


def _on_disk(run: Path, step: int) -> bool:
    return any(step_of(folder) == step for folder in checkpoint_dirs(run))


def _reason(
    metric: str, entries: Sequence[dict[str, Any]], turn: TurningPoint, resamples: int
) -> str:
    lowest, last, back = entries[turn.at], entries[-1], entries[turn.back]
    place = f"step {lowest['step']} (epoch {lowest['epoch']:g})"
    value = f"{lowest[metric]:.3f}"
    items = len(lowest[items_key_of(metric)])
    share = f"in {turn.share:.0%} of {resamples} resamples of {items} items"
    if not turn.rises and turn.at == len(entries) - 1:
        return f"{metric} has not turned: it is lowest at the last checkpoint, {place}: {value}."
    if not turn.rises:
        return (
            f"{metric} has no significant turning point: it is lowest at {place} with {value}, "
            f"and rises after that only {share}."
        )
    text = (
        f"{metric} falls to {value} at {place} and then rises, "
        f"to {last[metric]:.3f} at the last, {share}."
    )
    if turn.back < turn.at:
        text += (
            f" Step {back['step']} ({back[metric]:.3f}) is the earliest "
            "that is not significantly worse."
        )
    return text
