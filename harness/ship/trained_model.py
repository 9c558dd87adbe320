"""What was trained: the base, the adapter on it, and the prompt format that goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.models import ModelSource, locate, read_base, trained_quantisation
from harness.models.digest import digest_folder
from harness.models.quantisation import Quantisation
from harness.records import Format
from harness.run_file import (
    RunMetadata,
    base_of,
    find_adapter,
    is_trained,
    require_run_metadata,
)
from harness.ship.shipment import ShipJob
from harness.training.share.export import find_format


@dataclass(frozen=True, slots=True)
class Trained:
    """The base, the adapter on it if there is one, and the format."""

    base: str
    source: ModelSource
    adapter: Path | None
    stored: Quantisation
    """How the base was stored in the training."""
    format: Format
    formats_dirs: tuple[str, ...]
    metadata: RunMetadata | None
    """What the adapter's run says, if it has one."""

    @property
    def name(self) -> str:
        """A name for the files: the base's, and the adapter's or its run's."""
        return "-".join(filter(None, (self.source.name, self.adapter_name)))

    @property
    def adapter_name(self) -> str:
        """The name of the adapter's folder, or of its run's."""
        if self.adapter is None:
            return ""
        folder = self.adapter.resolve()
        return folder.parent.name if folder.name == "adapter" else folder.name

    @property
    def adapter_digest(self) -> str:
        """The digest of the adapter's files."""
        return digest_folder(self.adapter) if self.adapter else ""


def find_trained(job: ShipJob) -> Trained:
    """Find the parts of a job's model without loading weights.

    Raises HarnessError for a missing model, adapter or format, for an adapter of another base, and
    for a GGUF file, which has no safetensors to ship.
    """
    base, adapter, run = _parts(job)
    metadata = require_run_metadata(run) if run else None
    folders = job.formats_dirs or (metadata.formats_dirs if metadata else ())
    chat_format = find_format(job.format, folders, metadata)
    source = locate(base)
    stored = trained_quantisation(adapter) if adapter else Quantisation()
    if adapter is None and source.gguf:
        raise HarnessError(
            "a GGUF file is made for a runtime, and its weights are rounded",
            where=base,
            hint="ship the folder of safetensors that it was made from",
        )
    if adapter and (known := read_base(adapter)) and known["digest"] != source.digest:
        raise HarnessError(
            f"this adapter was trained on {known['name']} ({known['digest']}), "
            f"not on {source.name} ({source.digest})",
            where=str(adapter),
            hint="give the base that it was trained on: harness ship BASE --adapter ADAPTER",
        )
    return Trained(base, source, adapter, stored, chat_format, folders, metadata)


def _parts(job: ShipJob) -> tuple[str, Path | None, Path | None]:
    """The base's name, the adapter and its run."""
    if job.adapter:
        return job.model, *find_adapter(Path(job.adapter).expanduser())
    folder = Path(job.model).expanduser()
    if not is_trained(folder):
        return job.model, None, None
    adapter, run = find_adapter(folder)
    return base_of(adapter, run, "harness ship BASE --adapter ADAPTER"), adapter, run
