"""What a training run's folder says of itself: ``run.json`` and ``metrics.jsonl``.

``run.json`` holds all that is needed to resume, evaluate and branch a run without its recipe.
``metrics.jsonl`` holds one line for each step and for each checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, validation_error
from harness.files import read_json_object, write_text

RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
#: The file by which a folder is an adapter's.
ADAPTER_CONFIG = "adapter_config.json"
#: The adapter's folder in a run's.
_ADAPTER = "adapter"
#: Metrics of a checkpoint that are logged item by item, so that a rise can be set against noise.
NLL_METRICS = ("nll_held_out", "nll_seen", "nll_native")


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a run started: from a checkpoint of another, its parent."""

    parent: str
    """The parent's folder, relative to the run's own."""
    parent_digest: str
    parent_step: int
    step: int
    schedule_from: int
    """The step at which the run's schedule begins."""
    optimizer: str
    """``keep`` or ``reset``: whether Adam's moments came along."""
    changed: dict[str, Any]
    """The settings that differ from the parent's."""
    rescaled_b: float = 1.0
    """The factor that B was multiplied with."""


@dataclass(frozen=True, slots=True)
class RunMetadata:
    """A run's settings and what they were resolved to."""

    digest: str
    """Of all that decides the weights; two runs with one digest give the same adapter."""
    trained_formats: tuple[str, ...]
    trained_families: tuple[str, ...]
    held_out_formats: tuple[str, ...]
    config: dict[str, Any]
    directory: str = "."
    """The folder that relative paths of ``config`` start from."""
    data: dict[str, Any] = field(default_factory=dict)
    """Counts of the training set, for the model card."""
    branch: Branch | None = None
    stopped: dict[str, Any] | None = None
    """Step and reason when the run ended early."""

    @property
    def formats_dirs(self) -> tuple[str, ...]:
        """The folders of the run's own formats, wherever the caller is."""
        return tuple(
            str(Path(self.directory) / one) for one in self.config["formats"]["formats_dir"]
        )


def read_run_metadata(run: Path) -> RunMetadata | None:
    """What run.json says, or None when there is none. Raises HarnessError for an invalid one."""
    from pydantic import TypeAdapter, ValidationError

    file = run / RUN_FILE
    if not file.is_file():
        return None
    try:
        return TypeAdapter(RunMetadata).validate_json(file.read_bytes())
    except ValidationError as error:
        raise validation_error(error, str(file)) from None


def require_run_metadata(run: Path) -> RunMetadata:
    """What run.json says. Raises HarnessError when the folder holds no run, or an invalid one."""
    metadata = read_run_metadata(run)
    if metadata is None:
        raise HarnessError(
            "no run here",
            where=str(run),
            hint="give a folder that harness train wrote (it holds run.json)",
        )
    return metadata


def is_trained(folder: Path) -> bool:
    """Whether the folder is a run's or an adapter's, not a whole model's."""
    adapter = (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()
    return adapter or (folder / RUN_FILE).is_file()


def find_adapter(folder: Path) -> tuple[Path, Path | None]:
    """The adapter of a run's folder, or an adapter's own, and the run that it belongs to.

    Raises HarnessError where there is none: no such folder, another kind of folder, or a run that
    has not ended.
    """
    inner = folder / _ADAPTER
    adapter = inner if (inner / ADAPTER_CONFIG).is_file() else folder
    if not (adapter / ADAPTER_CONFIG).is_file():
        if (folder / RUN_FILE).is_file():
            raise HarnessError(
                "the run has no adapter yet",
                where=str(folder),
                hint=f"harness resume {folder}, or name one of its checkpoints",
            )
        there = "no adapter here" if folder.is_dir() else "a file, where a folder is expected"
        raise HarnessError(
            there if folder.exists() else "no such folder",
            where=str(folder),
            hint="give a run's folder or an adapter's, with its adapter_config.json",
        )
    return adapter, run_of(adapter)


def base_of(adapter: Path, run: Path | None, hint: str = "give its base instead") -> str:
    """The base of an adapter, as its run or its adapter_config.json names it.

    Raises HarnessError where neither does, with this hint.
    """
    if run is not None:
        metadata = require_run_metadata(run)
        name = str(metadata.config.get("model") or "")
        path = Path(metadata.directory) / name
        if name:
            return str(path) if path.exists() else name
    if named := read_json_object(adapter / ADAPTER_CONFIG).get("base_model_name_or_path"):
        return str(named)
    raise HarnessError("the adapter does not name its base", where=str(adapter), hint=hint)


def run_of(adapter: Path) -> Path | None:
    """The folder of the run that trained an adapter, or None where nothing says so."""
    folders = (adapter, adapter.parent)
    return next((folder for folder in folders if (folder / RUN_FILE).is_file()), None)


def trained_on(adapter: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files and the formats that an adapter was trained on; nothing where no run says so."""
    run = run_of(Path(adapter)) if adapter else None
    metadata = read_run_metadata(run) if run else None
    if metadata is None:
        return (), ()
    sources = metadata.config.get("data", {}).get("train", ())
    files = [one if isinstance(one, str) else one["path"] for one in sources]
    return tuple(files), metadata.trained_formats


def write_run_metadata(run: Path, metadata: RunMetadata) -> None:
    """Write run.json. Raises HarnessError when it cannot, or when the folder holds another run."""
    existing = read_run_metadata(run)
    if existing is not None and existing.digest != metadata.digest:
        raise other_run(run)
    text = json.dumps(asdict(metadata), indent=1) + "\n"
    write_text(run / RUN_FILE, text, what="run's folder")


def other_run(run: Path) -> HarnessError:
    """The error for a folder whose run has another digest."""
    return HarnessError(
        "this folder holds a run with other settings, data or base",
        where=str(run),
        hint="choose another --output-dir or remove the folder",
    )


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The entries of a run's metrics.jsonl, oldest first; none when there is no such file.

    A last line without a line end was cut off and is left out. Raises HarnessError for any other
    line that is not a JSON object.
    """
    file = run / METRICS_FILE
    if not file.is_file():
        return []
    entries = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise HarnessError(f"not JSON: {error}", where=f"{file}:{number}") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
            raise HarnessError("not an entry with a kind", where=f"{file}:{number}")
        if not isinstance(entry.get("step"), int):
            raise HarnessError("not an entry with a step", where=f"{file}:{number}")
        entries.append(entry)
    return entries


def measured_checkpoints(run: Path) -> list[dict[str, Any]]:
    """The entries of the checkpoints that were measured, oldest first."""
    return [entry for entry in read_metrics(run) if entry["kind"] == "checkpoint"]


def items_key_of(metric: str) -> str:
    """The key of a metric's values by item: nll_held_out → nll_items_held_out."""
    return metric.replace("nll_", "nll_items_", 1)


def first_logged(entries: Sequence[dict[str, Any]], *, items: bool = False) -> str:
    """The first of NLL_METRICS that any entry has, item by item with ``items``; "" if none does."""
    keys = {name: items_key_of(name) if items else name for name in NLL_METRICS}
    return next((name for name in keys if any(keys[name] in entry for entry in entries)), "")
