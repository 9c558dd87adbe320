"""The records of the room: what to ship, and what was shipped (``ship.json``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import HarnessError
from harness.files import read_json_object, write_text
from harness.ship.findings import Checked, Finding
from harness.training.share.merge import PlainDtype

Runtime = Literal["hf", "vllm", "llamacpp", "ollama"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
Behaviour = Literal["none", "quick", "full"]
SHIP_FILE = "ship.json"
#: The version of ship.json. It grows when readers of the old one would misread the new one.
VERSION = 1


@dataclass(frozen=True, slots=True)
class ShipJob:
    """What to ship, and how thoroughly to check it."""

    model: str
    """A run's folder, an adapter's, or a model."""
    out: Path
    format: str
    """Id of the prompt format that becomes the chat template."""
    to: tuple[Runtime, ...] = ("hf",)
    adapter: str | None = None
    """An adapter to merge into the model. None: the run's, if the model is a run."""
    quantise: tuple[str, ...] = ("Q8_0",)
    """Types of the GGUF files, by llama.cpp's names."""
    dtype: PlainDtype = "bfloat16"
    llama_cpp: Path | None = None
    """A checkout of llama.cpp, with its converter and llama-quantize."""
    formats_dirs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    """Files of conversations whose texts and ids are compared."""
    behaviour: Behaviour = "quick"
    formats: tuple[str, ...] = ()
    """Formats in which the artefacts are scored. Empty: the shipped one."""
    cases: tuple[str, ...] = ()
    device: str = "cpu"
    license: str = "unknown"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file that was written: its path in the folder, the runtimes that read it, its digest."""

    path: str
    runtimes: tuple[str, ...]
    sha256: str
    bytes: int
    quantisation: str = ""
    """The type of a file of weights, such as bfloat16 or Q4_K_M."""


@dataclass(frozen=True, slots=True)
class PairedScore:
    """One metric of one artefact in one format, and of the same cases in transformers.

    ``low`` and ``high`` bound the difference, artefact − reference, over the paired cases. They are
    None if there are too few cases for an interval.
    """

    artefact: str
    format: str
    metric: str
    reference: float
    value: float
    difference: float
    low: float | None
    high: float | None
    n: int

    @property
    def is_real(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Shipment:
    """All that was shipped and checked."""

    name: str
    created: str
    base: dict[str, str]
    """The model's name, and the digest of its weights."""
    adapter: dict[str, str]
    """The name of the adapter's folder or of its run's, and its digest; empty without one."""
    format: str
    stops: tuple[str, ...]
    stop_ids: tuple[int, ...]
    commands: dict[str, str]
    """Runtime → the command that runs it."""
    made_with: dict[str, str]
    """The programs that wrote the files, with their versions."""
    artefacts: tuple[Artefact, ...]
    checks: tuple[Checked, ...]
    scores: tuple[PairedScore, ...] = ()
    license: str = "unknown"
    notes: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all checks."""
        return tuple(finding for check in self.checks for finding in check.findings)

    def to_json(self) -> dict[str, Any]:
        """The document ``ship.json``."""
        return {
            "ship": VERSION,
            **asdict(self),
            "checks": [check.to_json() for check in self.checks],
        }


def artefact_of(
    folder: Path, path: Path, runtimes: Sequence[str], quantisation: str = ""
) -> Artefact:
    """The record of a file below the shipment's folder."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Artefact(
        path.relative_to(folder).as_posix(),
        tuple(runtimes),
        digest,
        path.stat().st_size,
        quantisation,
    )


def write_shipment(folder: Path, shipment: Shipment) -> None:
    """Write ship.json."""
    text = json.dumps(shipment.to_json(), indent=1, ensure_ascii=False) + "\n"
    write_text(folder / SHIP_FILE, text)


def read_shipment(path: Path) -> Shipment:
    """Read ship.json, given its path or the shipment's folder.

    Raises HarnessError for another kind of file, and for another version.
    """
    file = path / SHIP_FILE if path.is_dir() else path
    table = read_json_object(file)
    if table.pop("ship", None) != VERSION:
        raise HarnessError(
            f"not a {SHIP_FILE} of version {VERSION}",
            where=str(file),
            hint="harness ship writes it",
        )
    try:
        return Shipment(
            **{
                **table,
                "stops": tuple(table["stops"]),
                "stop_ids": tuple(table["stop_ids"]),
                "notes": tuple(table["notes"]),
                "artefacts": tuple(
                    Artefact(**{**row, "runtimes": tuple(row["runtimes"])})
                    for row in table["artefacts"]
                ),
                "checks": tuple(map(Checked.from_json, table["checks"])),
                "scores": tuple(PairedScore(**row) for row in table["scores"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HarnessError(f"damaged: {error}", where=str(file)) from None
