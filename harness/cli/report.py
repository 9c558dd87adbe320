"""harness report: the pages again from a report.json, a sweep.json or a comparison's JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class ReportOptions:
    file: Annotated[str, tyro.conf.Positional]
    """A report.json, the sweep.json of a sweep, or the JSON beside a comparison's page."""
    out: str | None = None
    """Folder to write to; the file's own without it."""
    sweep: str | None = None
    """Folder of a harness sweep: its map of learning rate × epochs becomes a part of the report."""


def report(args: list[str]) -> int:
    """Write the pages of a document again."""
    options = parse(
        ReportOptions,
        args,
        "report",
        "Write the pages again from a report.json, or from the JSON of a sweep or a comparison.",
    )
    from harness.report.write import write_again

    source = Path(options.file)
    for path in write_again(
        source,
        Path(options.out) if options.out else source.parent,
        sweep=Path(options.sweep) if options.sweep else None,
    ):
        print(path)
    return EXIT_OK
