"""The tree of a run and its branches, and how far each of them got."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import read_json, write_text
from harness.run_file import first_logged, read_metrics, read_run_metadata, require_run_metadata
from harness.training.runs.checkpoints import BRANCHES_FILE, checkpoint_dirs
from harness.training.runs.lock import holder_of


@dataclass(frozen=True, slots=True)
class RunNode:
    """A run in its tree."""

    run: Path
    branched_at: int | None
    changed: dict[str, Any]
    learning_rate: float
    state: str
    """A word or two on how far it got."""
    steps: tuple[int, int]
    measure: str
    """The metric of ``first``, ``best`` and ``last``: (step, value) of measured checkpoints."""
    first: tuple[int, float] | None
    best: tuple[int, float] | None
    last: tuple[int, float] | None
    children: tuple[RunNode, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain values, with the children inside."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "run": str(self.run),
            "children": [child.as_dict() for child in self.children],
        }


def run_tree(run: Path, metric: str = "") -> RunNode:
    """The tree below a run, with each run's scores in one metric.

    Without ``metric``, the first of NLL_METRICS that was logged.
    """
    metadata = require_run_metadata(run)
    entries = read_metrics(run)
    measured = [entry for entry in entries if entry["kind"] == "checkpoint"]
    metric = metric or first_logged(measured)
    scores = [(int(entry["step"]), float(entry[metric])) for entry in measured if metric in entry]
    branch = metadata.branch
    start = branch.step if branch else 0
    return RunNode(
        run,
        branch.parent_step if branch else None,
        branch.changed if branch else {},
        float(metadata.config["optimisation"]["learning_rate"]),
        _state(run, stopped=any(entry["kind"] == "stopped" for entry in entries)),
        (start, max((int(entry["step"]) for entry in entries), default=start)),
        metric,
        scores[0] if scores else None,
        min(scores, key=lambda pair: pair[1]) if scores else None,
        scores[-1] if scores else None,
        tuple(run_tree(child, metric) for child in children_of(run) if read_run_metadata(child)),
    )


def _state(run: Path, *, stopped: bool) -> str:
    if holder := holder_of(run):
        return f"{holder.split(' (')[0]} is at work"
    if (run / "adapter").is_dir():
        return "stopped" if stopped else "finished"
    return "interrupted" if checkpoint_dirs(run) else "not begun"


def root_of(run: Path) -> Path:
    """The run that a tree began with. The search ends at a parent that is missing."""
    metadata = require_run_metadata(run)
    seen = {run.resolve()}
    while metadata.branch is not None:
        parent = Path(os.path.normpath(run / metadata.branch.parent))
        above = read_run_metadata(parent)
        if above is None or parent.resolve() in seen:
            return run
        seen.add(parent.resolve())
        run, metadata = parent, above
    return run


def children_of(run: Path) -> list[Path]:
    """The runs that branched from this one, in the order of their checkpoints."""
    names = (name for checkpoint in checkpoint_dirs(run) for name in _branches_of(checkpoint))
    return [Path(os.path.normpath(run / name)) for name in names]


def mark_branch(run: Path, checkpoint: Path, child: Path) -> None:
    """Record in a checkpoint that a run branched from it, so that it is kept and the run found."""
    names = _branches_of(checkpoint)
    name = os.path.relpath(child, run)
    if name not in names:
        write_text(checkpoint / BRANCHES_FILE, json.dumps([*names, name]) + "\n")


def _branches_of(checkpoint: Path) -> list[str]:
    file = checkpoint / BRANCHES_FILE
    names = read_json(file) if file.is_file() else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise HarnessError("expected a list of folders", where=str(file))
    return names
