"""The files of a document, each written whole or not at all; and again from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError
from harness.report.comparison import COMPARISON_SCHEMA, Comparison, comparison_json
from harness.report.comparison_page import render_comparison
from harness.report.document import Report, read_table, to_json
from harness.report.markdown import render_markdown
from harness.report.page import render_html
from harness.report.sweep import SWEEP_SCHEMA, Sweep, read_sweep
from harness.report.sweep_map import write_sweep_map


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.md and report.html. Raises HarnessError when the folder cannot be written."""
    return _write({"report.json": to_json(report), "report.md": render_markdown(report), "report.html": render_html(report)}, folder)


def write_comparison(comparison: Comparison, page: Path) -> list[Path]:
    """Write a comparison's page, and its JSON beside it. Raises HarnessError when the folder cannot be written."""
    return _write({f"{page.stem}.json": comparison_json(comparison), page.name: render_comparison(comparison)}, page.parent)


def write_again(source: Path, folder: Path, *, sweep: Path | None = None) -> list[Path]:
    """Write the pages of a report, a sweep or a comparison from its JSON; a report may be given a sweep's folder to show its map.

    Raises HarnessError for what is none of them.
    """
    table = read_table(source, "a report")
    schema = table.get("schema")
    is_sweep = schema == SWEEP_SCHEMA or (schema is None and "points" in table)  # of before there were schemas
    if sweep is not None and (is_sweep or schema == COMPARISON_SCHEMA):
        raise HarnessError("a sweep's map is added to a report", where=str(source), hint="give a report.json, or leave --sweep out")
    if schema == COMPARISON_SCHEMA:
        return write_comparison(Comparison.from_dict(table, str(source)), folder / f"{source.stem}.html")
    if is_sweep:
        folder.mkdir(parents=True, exist_ok=True)
        return write_sweep_map(Sweep.from_dict(table, str(source)), folder)
    report = Report.from_dict(table, str(source))
    return write_report(report if sweep is None else replace(report, sweep=read_sweep(sweep).as_dict()), folder)


def _write(pages: Mapping[str, str], folder: Path) -> list[Path]:
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            partial = folder / f".{name}.partial"
            partial.write_text(text, encoding="utf-8", errors="replace")
            partial.replace(folder / name)
            paths.append(folder / name)
    except OSError as error:
        raise HarnessError(f"cannot write the report: {error.strerror}", where=str(folder)) from None
    return paths
