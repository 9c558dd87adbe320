"""harness export: prepare an adapter for sharing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class ExportOptions:
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|ADAPTER")]
    """Folder of a run or of an adapter."""
    out: str
    """New folder for the result."""
    format_id: Annotated[str, tyro.conf.arg(name="format")]
    """Id of the prompt format that becomes the chat template."""
    base: str | None = None
    """The model that the adapter was trained on. Default: the one that the run names."""
    base_id: str | None = None
    """Name of the base for those who load the result, such as owner/name on the hub."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    report: str | None = None
    """A report.json of harness eval; its scores go into the model card."""
    license: str = "unknown"
    """Licence of the adapter, for the model card."""
    data_license: str = "unknown"
    """Licence of the data, for the model card."""
    json: bool = False
    """Print {"folder", "format"} as JSON."""


def export(args: list[str]) -> int:
    """Write adapter, chat template and model card so that plain transformers and peft load them.

    Example: harness export runs/train --format chatml --out shared
    """
    options = parse(ExportOptions, args, "export", export.__doc__)
    from harness.training.share.export import ExportJob
    from harness.training.share.export import export as write

    job = ExportJob(
        Path(options.source),
        Path(options.out),
        options.format_id,
        options.base,
        options.base_id,
        options.formats_dir,
        Path(options.report) if options.report else None,
        options.license,
        options.data_license,
    )
    folder = write(job)
    if options.json:
        print_json({"folder": str(folder), "format": options.format_id})
        return EXIT_OK
    print(
        f"written: {folder} (adapter, tokenizer with the chat template {options.format_id}, "
        "README.md); transformers renders it as we do"
    )
    return EXIT_OK
