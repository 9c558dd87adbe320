"""harness export: prepare an adapter for sharing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError


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
    push_to_hub: Annotated[str | None, tyro.conf.arg(metavar="OWNER/NAME")] = None
    """Also push the folder to this repository of the Hugging Face hub, which is created if it is
    not there. The token is that of hf auth login, or HF_TOKEN."""
    private: bool = False
    """With --push-to-hub: create the repository as a private one."""
    force: bool = False
    """With --push-to-hub: push even if the report says that the training data is memorised."""
    json: bool = False
    """Print {"folder", "format"}, and with --push-to-hub "url", as JSON."""


def export(args: list[str]) -> int:
    """Write adapter, chat template and model card so that plain transformers and peft load them.

    Example: harness export runs/train --format chatml --out shared
    """
    options = parse(ExportOptions, args, "export", export.__doc__)
    if (options.private or options.force) and not options.push_to_hub:
        raise HarnessError("--private and --force are for a push", hint="add --push-to-hub")
    from harness.training.share.export import ExportJob
    from harness.training.share.export import export as write
    from harness.training.share.push import check_push, push

    report = Path(options.report) if options.report else None
    to = options.push_to_hub
    if to is not None and (note := check_push(to, report, force=options.force)):
        print(note, file=sys.stderr)
    job = ExportJob(
        Path(options.source),
        Path(options.out),
        options.format_id,
        options.base,
        options.base_id,
        options.formats_dir,
        report,
        options.license,
        options.data_license,
    )
    folder = write(job)
    url = ""
    if to is not None:
        url = push(folder, to, private=options.private)
    if options.json:
        pushed = {"url": url} if url else {}
        print_json({"folder": str(folder), "format": options.format_id, **pushed})
        return EXIT_OK
    print(
        f"written: {folder} (adapter, tokenizer with the chat template {options.format_id}, "
        "README.md); transformers renders it as we do"
    )
    if url:
        print(f"pushed: {url}")
    return EXIT_OK
