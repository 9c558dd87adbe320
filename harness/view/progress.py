"""What a run's folder tells while there is no report yet: results by format and probe, steps and checkpoints."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evaluate.job import RESULTS_FILE

METRICS_FILE = "metrics.jsonl"
REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """``results``: format → probe → how many there are. ``training``: steps and checkpoints, as a report holds them; None without a training run."""

    results: dict[str, dict[str, int]]
    training: dict[str, Any] | None

    @property
    def probes(self) -> list[str]:
        """The kinds of work that occur."""
        return sorted({probe for row in self.results.values() for probe in row})


def files_of(folder: Path) -> dict[str, Path]:
    """The files that tell how far a run is, by name; a demo keeps its training run in ``train/``."""
    places = {RESULTS_FILE: [folder], METRICS_FILE: [folder, folder / "train"], REPORT_FILE: [folder]}
    found = {name: next((place / name for place in where if (place / name).is_file()), None) for name, where in places.items()}
    return {name: path for name, path in found.items() if path is not None}


def version_of(folder: Path) -> str:
    """Changes whenever one of the run's files does."""
    stamps = []
    for name, path in sorted(files_of(folder).items()):
        for file in (path, path.with_name(path.name + "-wal")):  # SQLite writes beside its file first
            if file.is_file():
                stat = file.stat()
                stamps.append(f"{name}:{stat.st_size}:{stat.st_mtime_ns}")
    return "|".join(stamps)


def read_progress(folder: Path) -> Progress:
    """Read what is there. A line that is being written is left out; a results file that cannot be read yet counts as empty."""
    files = files_of(folder)
    return Progress(
        results=_results(files[RESULTS_FILE]) if RESULTS_FILE in files else {},
        training=_training(files[METRICS_FILE]) if METRICS_FILE in files else None,
    )


def _results(path: Path) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5) as db:
            rows = db.execute("SELECT format.name, cell.probe, count(*) FROM cell JOIN format ON format.id = cell.format GROUP BY 1, 2").fetchall()
    except sqlite3.Error:
        return {}
    for format, probe, count in rows:
        counts.setdefault(format, {})[probe] = count
    return dict(sorted(counts.items()))


def _training(path: Path) -> dict[str, Any]:
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    steps = [entry for entry in entries if entry.get("kind") == "step"]
    checkpoints = [{key: value for key, value in entry.items() if key != "kind"} for entry in entries if entry.get("kind") == "checkpoint"]
    return {"schedule": "", "steps": steps, "checkpoints": checkpoints}
