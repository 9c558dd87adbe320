"""Results of parts that were run in different folders, or on different machines, as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.minisymposium.compose import (
    RESULTS_FILE,
    read_results,
    write_pages,
    write_results,
)
from harness.errors import HarnessError


def merge(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the parts of all folders into ``out``, which may be one of them.

    Raises HarnessError if they are of different models or scales, or if two hold the same part
    with other numbers.
    """
    results = [read_results(folder / RESULTS_FILE) for folder in folders]
    first = results[0]
    parts: dict[str, Any] = {}
    minutes: dict[str, float] = {}
    for folder, found in zip(folders, results, strict=True):
        if _what(found) != _what(first):
            message = f"{found['scale']} results of {found['model']['name']}"
            hint = f"merge only {first['scale']} results of {first['model']['name']}"
            raise HarnessError(message, where=str(folder), hint=hint)
        for part, value in found["parts"].items():
            if parts.setdefault(part, value) != value:
                raise HarnessError(
                    f"part {part} has other numbers here",
                    where=str(folder),
                    hint="leave one of the two folders out",
                )
        for what, value in found["minutes"].items():
            minutes[what] = max(value, minutes.get(what, 0.0))
    gate = next((found["gate"] for found in results if found["gate"]), None)
    made = {part: each for found in reversed(results) for part, each in found["made"].items()}
    merged = {**first, "parts": parts, "made": made, "minutes": minutes, "gate": gate}
    out.mkdir(parents=True, exist_ok=True)
    merged = write_results(merged, out)
    write_pages(merged, out)
    return merged


def _what(results: dict[str, Any]) -> tuple[str, str]:
    """The scale and the model that results are of."""
    return results["scale"], results["model"]["digest"]
