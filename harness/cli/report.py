"""harness report: write the pages of a JSON document again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class ReportOptions:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A report.json, the sweep.json of a sweep, or the JSON beside a comparison's page."""
    out: str | None = None
    """Folder to write to. Default: the file's own folder."""
    sweep: str | None = None
    """Folder of a harness sweep, whose map of learning rate × epochs becomes part of the report."""
    json: bool = False
    """Print {"files"} as JSON."""


def report(args: list[str]) -> int:
    """Write the pages again from a report.json, or from the JSON of a sweep or a comparison.

    Example: harness report build/eval/my-model/report.json --out pages
    """
    options = parse(ReportOptions, args, "report", report.__doc__)
    from harness.report.write import write_again

    source = Path(options.file)
    folder = Path(options.out) if options.out else source.parent
    sweep = Path(options.sweep) if options.sweep else None
    paths = write_again(source, folder, sweep=sweep)
    if options.json:
        print_json({"files": list(map(str, paths))})
        return EXIT_OK
    for path in paths:
        print(path)
    return EXIT_OK
