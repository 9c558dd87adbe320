"""harness report: the pages again from a report.json."""

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
    """A report.json."""
    out: str | None = None
    """Folder to write to; the file's own without it."""


def report(args: list[str]) -> int:
    """Write report.md and report.html again from a report.json."""
    options = parse(ReportOptions, args, "report", "Write report.md and report.html again from a report.json.")
    from harness.report.document import read_report
    from harness.report.write import write_report

    source = Path(options.file)
    for path in write_report(read_report(source), Path(options.out) if options.out else source.parent):
        print(path)
    return EXIT_OK
