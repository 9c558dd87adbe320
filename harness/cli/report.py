"""harness report: write the pages of a JSON document again, or records for a database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from harness.cli.arguments import parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError


@dataclass(frozen=True)
class ReportOptions:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A report.json, the sweep.json of a sweep, or the JSON beside a comparison's page."""
    out: str | None = None
    """Folder to write to. Default: the file's own folder."""
    sweep: str | None = None
    """Folder of a harness sweep, whose map of learning rate × epochs becomes part of the report."""
    to: Literal["every-eval-ever"] | None = None
    """Write records of a shared schema instead of pages: every-eval-ever, a JSON file for each run
    below OUT/data/formatproof. Nothing is sent."""
    organization: str | None = None
    """With --to: who made the evaluation. Default: unknown."""
    relationship: Literal["first_party", "third_party", "collaborative", "other"] | None = None
    """With --to: what they are to the developer of the model. Default: other."""
    json: bool = False
    """Print {"files"} as JSON."""


def report(args: list[str]) -> int:
    """Write the pages again from a report.json, or from the JSON of a sweep or a comparison.

    Example: harness report build/eval/my-model/report.json --out pages
    """
    options = parse(ReportOptions, args, "report", report.__doc__)
    from harness.report.write import write_again

    source = Path(options.file)
    if source.is_dir():
        raise HarnessError(
            "a folder, where a report.json is expected",
            where=str(source),
            hint=f"give {source / 'report.json'}, which harness eval writes",
        )
    folder = Path(options.out) if options.out else source.parent
    sweep = Path(options.sweep) if options.sweep else None
    if options.to:
        if sweep:
            raise HarnessError("--to and --sweep exclude each other", hint="leave --sweep out")
        paths = _write_records(options, source, folder)
    elif options.organization or options.relationship:
        raise HarnessError(
            "--organization and --relationship are for records", hint="add --to every-eval-ever"
        )
    else:
        paths = write_again(source, folder, sweep=sweep)
    if options.json:
        print_json({"files": list(map(str, paths))})
        return EXIT_OK
    for path in paths:
        print(path)
    return EXIT_OK


def _write_records(options: ReportOptions, source: Path, folder: Path) -> list[Path]:
    from harness.report.document import read_report
    from harness.report.every_eval_ever import write_records

    return write_records(
        read_report(source),
        folder,
        organization=options.organization or "unknown",
        relationship=options.relationship or "other",
    )
