"""Runs and what branched from them: who came from which checkpoint, and how far each got."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import write_text
from harness.run_file import read_run_metadata, require_run_metadata
from harness.training.config import NLL_MEASURES
from harness.training.runs.checkpoints import BRANCHES_FILE, checkpoint_dirs
from harness.training.runs.lock import holder_of
from harness.training.runs.metrics_log import measured_checkpoints, read_entries


@dataclass(frozen=True, slots=True)
class RunNode:
    """A run in its tree. ``first``, ``best`` and ``last`` are (step, value) of its measured checkpoints; ``state`` says in a word how far it is."""

    run: Path
    branched_at: int | None
    changed: dict[str, Any]
    learning_rate: float
    state: str
    steps: tuple[int, int]
    measure: str
    first: tuple[int, float] | None
    best: tuple[int, float] | None
    last: tuple[int, float] | None
    children: tuple[RunNode, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain values, children inside."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **facts,
            "run": str(self.run),
            "children": [child.as_dict() for child in self.children],
        }


def root_of(run: Path) -> Path:
    """The run that a tree began with. A parent that is gone ends the search."""
    note = require_run_metadata(run)
    seen = {run.resolve()}
    while note.branch is not None:
        parent = parent_of(run, note.branch.parent)
        above = read_run_metadata(parent)
        if above is None or parent.resolve() in seen:
            return run
        seen.add(parent.resolve())
        run, note = parent, above
    return run


def parent_of(run: Path, relative: str) -> Path:
    """The folder that a branch came from, from its path relative to the branch."""
    return Path(os.path.normpath(run / relative))


def children_of(run: Path) -> list[Path]:
    """The runs that branched from this one, in the order of their checkpoints."""
    found: list[Path] = []
    for checkpoint in checkpoint_dirs(run):
        file = checkpoint / BRANCHES_FILE
        if file.is_file():
            found += [
                Path(os.path.normpath(run / child))
                for child in json.loads(file.read_text(encoding="utf-8"))
            ]
    return found


def mark_branch(run: Path, checkpoint: Path, child: Path) -> None:
    """Note in a checkpoint that a run branched from it: it is kept from then on, and the tree finds the branch."""
    file = checkpoint / BRANCHES_FILE
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    name = os.path.relpath(child, run)
    if name not in known:
        write_text(file, json.dumps([*known, name]) + "\n")


def run_tree(run: Path, measure: str = "") -> RunNode:
    """The tree below a run, with each run's scores in one measure (the first of NLL_MEASURES that was logged unless given)."""
    note = require_run_metadata(run)
    entries = read_entries(run)
    points = measured_checkpoints(run)
    measure = measure or next(
        (name for name in NLL_MEASURES if any(name in entry for entry in points)), ""
    )
    scores = [(int(entry["step"]), float(entry[measure])) for entry in points if measure in entry]
    stopped = [entry for entry in entries if entry["kind"] == "stopped"]
    if holder := holder_of(run):
        state = f"{holder.split(' (')[0]} is at work"
    elif (run / "adapter").is_dir():
        state = "stopped" if stopped else "finished"
    else:
        state = "interrupted" if checkpoint_dirs(run) else "not begun"
    start = note.branch.step if note.branch else 0
    children = tuple(
        run_tree(child, measure) for child in children_of(run) if read_run_metadata(child) is not None
    )
    return RunNode(
        run,
        note.branch.parent_step if note.branch else None,
        note.branch.changed if note.branch else {},
        float(note.config["optimisation"]["learning_rate"]),
        state,
        (start, max((int(entry["step"]) for entry in entries), default=start)),
        measure,
        scores[0] if scores else None,
        min(scores, key=lambda pair: pair[1]) if scores else None,
        scores[-1] if scores else None,
        children,
    )
