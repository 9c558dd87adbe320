"""Which checkpoint of a run to take: the last good one before held-out NLL rises, or before recall leaves its null, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.run_file import require_run_metadata
from harness.training.config import NLL_MEASURES
from harness.training.runs.checkpoints import checkpoint_dirs, step_of
from harness.training.runs.metrics_log import measured_checkpoints
from harness.training.runs.run_tree import root_of
from harness.training.selection.memorisation import leaves_null
from harness.training.selection.turning_point import DRAWS, TurningPoint, find_turning_point

RECALL = "recall"


@dataclass(frozen=True, slots=True)
class BestCheckpoint:
    """The picked step (``None``: none is good), the turn if there is one, and why in a sentence. ``value`` is the measure there.

    ``recall_from`` is the first step at which training answers are known better than twins, ``checkpoint`` the newest
    that is on the disk up to the picked step.
    """

    run: str
    measure: str
    step: int | None
    epoch: float | None
    value: float | None
    turned: bool
    turn_step: int | None
    turn_range: tuple[int, int] | None
    recall_from: int | None
    checkpoint: str | None
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def find_best_checkpoint(
    run: Path, measure: str = "", *, margin: float = 1.0, seed: int = 0, draws: int = DRAWS
) -> BestCheckpoint:
    """Find the turning point of a run (METRICS §7). ``measure`` is one of NLL_MEASURES (the first that was logged unless given) or "recall".

    Raises HarnessError when fewer than two checkpoints were measured by item.
    """
    require_run_metadata(run)
    entries = measured_checkpoints(run)
    measure = measure or next(
        (name for name in NLL_MEASURES if any(items_key_of(name) in entry for entry in entries)),
        NLL_MEASURES[0],
    )
    recall_from = _recall_from(run, entries, seed)
    if measure == RECALL:
        return _by_recall(run, entries, recall_from)
    steps = [int(entry["step"]) for entry in entries]
    turn = turning_point_of(entries, measure, margin=margin, seed=seed, draws=draws, where=str(run))
    at = turn.back if turn.rises else turn.at
    entry = entries[at] if at > 0 or _on_disk(run, steps[at]) else None
    reason = _reason(measure, entries, turn, draws)
    if recall_from is not None:
        reason += f" Training answers are known better than twins from step {recall_from} on."
    return _picked(
        run,
        measure,
        entry,
        turn.rises,
        reason,
        recall_from,
        steps[turn.at] if turn.rises else None,
        (steps[turn.low], steps[turn.high]),
    )


def turning_point_of(
    entries: Sequence[dict[str, Any]],
    measure: str,
    *,
    margin: float = 1.0,
    seed: int = 0,
    draws: int = DRAWS,
    where: str = "",
) -> TurningPoint:
    """The turn of a measure over measured checkpoints, from its values by item. Items that are not in all of them are left out."""
    import numpy as np

    key = items_key_of(measure)
    if measure not in NLL_MEASURES:
        raise HarnessError(
            f"no turn can be found in {measure!r}",
            where=where,
            hint="choose one of " + ", ".join((*NLL_MEASURES, RECALL)),
        )
    if len(entries) < 2 or not all(key in entry for entry in entries):
        raise HarnessError(
            f"fewer than two checkpoints with {measure} by item",
            where=where,
            hint="set evaluation.references above 0, name formats.held_out, and save more often",
        )
    items = [item for item in entries[0][key] if all(item in entry[key] for entry in entries)]
    return find_turning_point(
        np.array([[entry[key][item] for entry in entries] for item in items]),
        margin=margin,
        seed=seed,
        draws=draws,
    )


def items_key_of(measure: str) -> str:
    """Where the values by item of a measure stand in an entry: nll_held_out → nll_items_held_out."""
    return measure.replace("nll_", "nll_items_", 1)


def _recall_from(run: Path, entries: Sequence[dict[str, Any]], seed: int) -> int | None:
    """The first step that knows its training answers better than twins, against the start of the whole tree."""
    start = measured_checkpoints(root_of(run))[:1]
    found = [
        (int(entry["step"]), entry["recall_items"]) for entry in entries if "recall_items" in entry
    ]
    if not start or "recall_items" not in start[0]:
        return None
    return next(
        (step for step, items in found if leaves_null(start[0]["recall_items"], items, seed=seed)),
        None,
    )


def _by_recall(run: Path, entries: Sequence[dict[str, Any]], recall_from: int | None) -> BestCheckpoint:
    if not any("recall_items" in entry for entry in entries):
        raise HarnessError(
            "no recall was measured", where=str(run), hint="set evaluation.recall_rows above 0"
        )
    if recall_from is None:
        return _picked(
            run,
            RECALL,
            entries[-1],
            False,
            "Training answers are known no better than twins at any checkpoint.",
            None,
            None,
            None,
        )
    before = [entry for entry in entries if entry["step"] < recall_from]
    good = (
        before[-1]
        if before and (before[-1]["step"] > 0 or _on_disk(run, before[-1]["step"]))
        else None
    )
    reason = f"Training answers are known better than twins from step {recall_from} on, more than exchanging the two explains (95 %)."
    return _picked(
        run, RECALL, good, True, reason, recall_from, before[-1]["step"] if before else None, None
    )


def _picked(
    run: Path,
    measure: str,
    entry: dict[str, Any] | None,
    turned: bool,
    reason: str,
    recall_from: int | None,
    turn_step: int | None,
    turn_range: tuple[int, int] | None,
) -> BestCheckpoint:
    if entry is None:
        reason += " No checkpoint lies before it: lower the rate, or save earlier."
        return BestCheckpoint(
            str(run),
            measure,
            None,
            None,
            None,
            turned,
            turn_step,
            turn_range,
            recall_from,
            None,
            reason,
        )
    kept = [folder for folder in checkpoint_dirs(run) if step_of(folder) <= entry["step"]]
    value = entry.get(measure)
    return BestCheckpoint(
        str(run),
        measure,
        int(entry["step"]),
        float(entry["epoch"]),
        float(value) if isinstance(value, float) else None,
        turned,
        turn_step,
        turn_range,
        recall_from,
        str(kept[-1]) if kept else None,
        reason,
    )


def _on_disk(run: Path, step: int) -> bool:
    return any(step_of(folder) == step for folder in checkpoint_dirs(run))


def _reason(measure: str, entries: Sequence[dict[str, Any]], turn: TurningPoint, draws: int) -> str:
    lowest, last = entries[turn.at], entries[-1]
    place = f"step {lowest['step']} (epoch {lowest['epoch']:g})"
    items = len(lowest[items_key_of(measure)])
    sure = f"in {turn.share:.0%} of {draws} draws of {items} items"
    if not turn.rises:
        if turn.at == len(entries) - 1:
            return f"{measure} has not turned: it is lowest at the last checkpoint, {place}, with {lowest[measure]:.3f}."
        return f"{measure} has not surely turned: it is lowest at {place} with {lowest[measure]:.3f}, and rises after that only {sure}."
    text = f"{measure} falls to {lowest[measure]:.3f} at {place} and then rises, to {last[measure]:.3f} at the last, {sure}."
    if turn.back < turn.at:
        text += f" Step {entries[turn.back]['step']} ({entries[turn.back][measure]:.3f}) is the earliest that cannot be told from it."
    return text
