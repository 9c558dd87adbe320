"""The files that a shipment consists of, handed from the writers to the checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.ship.model_folder import ModelFolder
from harness.ship.shipment import ShipJob
from harness.ship.trained_model import Trained


@dataclass(frozen=True, slots=True)
class Made:
    """What was written below a folder."""

    job: ShipJob
    trained: Trained
    folder: Path
    model: ModelFolder
    gguf: dict[str, Path]
    """Type → file."""
    commands: dict[str, str]
    made_with: dict[str, str]
    notes: tuple[str, ...]
