"""An evaluation as a user asks for it: names and paths in, Evaluation out.

``run.json``: what a run is, so that it can be resumed, evaluated and branched without its recipe.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import write_text

RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a run started from: a checkpoint of another. ``parent`` is relative to the run's own folder.

    ``schedule_from`` is the step at which the run's schedule begins, ``optimizer`` whether Adam's moments came
    along, ``changed`` what was set otherwise than in the parent, ``rescaled_b`` the factor that B was multiplied with.
    """

    parent: str
    parent_digest: str
    parent_step: int
    step: int
    schedule_from: int
    optimizer: str
    changed: dict[str, Any]
    rescaled_b: float = 1.0


@dataclass(frozen=True, slots=True)
class RunMetadata:
    """A run's settings and what they were resolved to. ``directory`` is where its relative paths start, ``data`` what a model card tells of the training set,
    ``stopped`` the step and reason of an early end."""

    digest: str
    trained_formats: tuple[str, ...]
    trained_families: tuple[str, ...]
    held_out_formats: tuple[str, ...]
    config: dict[str, Any]
    directory: str
    data: dict[str, Any] = field(default_factory=dict)
    branch: Branch | None = None
    stopped: dict[str, Any] | None = None


def read_run_metadata(run: Path) -> RunMetadata | None:
    """The note of a run folder, or nothing when there is none. Raises HarnessError for one that is no note."""
    file = run / RUN_FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        branch = found.get("branch")
        return RunMetadata(
            found["digest"],
            tuple(found["trained_formats"]),
            tuple(found["trained_families"]),
            tuple(found["held_out_formats"]),
            found["config"],
            found.get("directory", "."),
            found.get("data", {}),
            Branch(**branch) if branch else None,
            found.get("stopped"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"not a run's note: {error}", where=str(file)) from None


def require_run_metadata(run: Path) -> RunMetadata:
    """The note of a run folder. Raises HarnessError when the folder holds no run."""
    note = read_run_metadata(run)
    if note is None:
        raise HarnessError(
            "no run here",
            where=str(run),
            hint="give a folder that harness train wrote (it holds run.json)",
        )
    return note


def write_run_metadata(run: Path, note: RunMetadata) -> None:
    """Write the note whole. Raises HarnessError when it cannot, or when another run's stands there."""
    existing = read_run_metadata(run)
    if existing is not None and existing.digest != note.digest:
        raise HarnessError(
            "this folder holds a run with other settings, data or base",
            where=str(run),
            hint="choose another --output-dir or remove the folder",
        )
    try:
        write_text(run / RUN_FILE, json.dumps(asdict(note), indent=1) + "\n")
    except OSError as error:
        raise HarnessError(
            f"cannot write the run's folder: {error.strerror}", where=str(run)
        ) from None


def here() -> str:
    """The folder that relative paths start from."""
    return os.getcwd()  # noqa: PTH109  # as text, as the note keeps it
