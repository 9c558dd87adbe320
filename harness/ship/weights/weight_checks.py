"""All checks of weights of a shipment: the merged folder, then each GGUF file."""

from __future__ import annotations

from collections.abc import Iterator

from harness.models import read_base
from harness.ship.findings import Checked
from harness.ship.made import Made
from harness.ship.weights.gguf_check import check_gguf
from harness.ship.weights.gguf_file import GgufFile
from harness.ship.weights.merged_check import CHECK, check_merged
from harness.ship.weights.metadata_check import check_metadata
from harness.ship.weights.replay import Change, read_changes
from harness.ship.weights.tensors import Tensors, base_tensors, folder_tensors


def check_weights(made: Made) -> Iterator[Checked]:
    """The results for what was made, one model at a time."""
    trained, job = made.trained, made.job
    merged = folder_tensors(made.model.path)
    base: Tensors | None = None
    changes: dict[str, Change] = {}
    if trained.adapter is None:
        copied = "the files were copied: nothing was merged"
        yield Checked.not_checked(CHECK, "hf", copied)
    else:
        changes, unknown = read_changes(trained.adapter)
        known = read_base(trained.adapter)
        dtype = known.get("dtype", job.dtype) if trained.stored else job.dtype
        folder = trained.source.folder
        base = base_tensors(trained.base, folder, dtype, trained.stored, changes)
        yield check_merged(base, changes, merged, made.model.dtype, unknown)
    for kind, path in made.gguf.items():
        file, runtime = GgufFile.open(path), f"llamacpp {kind}"
        yield check_gguf(file, merged, runtime, base=base, changes=changes)
        yield check_metadata(file, made.model.path, made.model.template, runtime)
