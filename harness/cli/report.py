"""harness report: write the pages of a JSON document again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class ReportOptions:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A report.json, the sweep.json of a sweep, or the JSON beside a comparison's page."""
    out: str | None = None
    """Folder to write to. Default: the file's own folder."""
    sweep: str | None = None
    """Folder of a harness sweep, whose map of learning rate × epochs becomes part of the report."""


def report(args: list[str]) -> int:
    """Write the pages again from a report.json, or from the JSON of a sweep or a comparison."""
    options = parse(ReportOptions, args, "report", report.__doc__)
    from harness.report.write import write_again

    source = Path(options.file)
    folder = Path(options.out) if options.out else source.parent
    sweep = Path(options.sweep) if options.sweep else None
    for path in write_again(source, folder, sweep=sweep):
        print(path)
    return EXIT_OK
