"""Results of parts that were run in different folders, or on different machines, as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.minisymposium.compose import RESULTS_FILE, read_results, write_results
from harness.errors import HarnessError


def merge(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the parts of all folders into ``out``, which may be one of them.

    Raises HarnessError if they are of different models or scales, or if two hold the same part
    with other numbers.
    """
    results = [read_results(folder / RESULTS_FILE) for folder in folders]
    merged = {**results[0], "parts": {}, "minutes": {}, "gate": None}
    for folder, found in zip(folders, results, strict=True):
        one, other = ((r["scale"], r["model"]["digest"]) for r in (merged, found))
        if one != other:
            message = f"{found['scale']} results of {found['model']['name']}"
            hint = f"merge only {merged['scale']} results of {merged['model']['name']}"
            raise HarnessError(message, where=str(folder), hint=hint)
        for key in ("parts", "minutes"):
            for name, value in found[key].items():
                if key == "parts" and merged[key].get(name, value) != value:
                    raise HarnessError(
                        f"part {name} has other numbers here",
                        where=str(folder),
                        hint="leave one of the two folders out",
                    )
                merged[key][name] = (
                    max(value, merged[key].get(name, 0)) if key == "minutes" else value
                )
        merged["gate"] = merged["gate"] or found["gate"]
        merged["date"] = min(merged.get("date", found.get("date", "")), found.get("date", ""))
    out.mkdir(parents=True, exist_ok=True)
    return write_results(merged, out)
