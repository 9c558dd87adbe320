"""The three files of a report, each written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError
from harness.report.document import Report, to_json
from harness.report.markdown import render_markdown
from harness.report.page import render_html


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.md and report.html. Raises HarnessError when the folder cannot be written."""
    pages = {"report.json": to_json(report), "report.md": render_markdown(report), "report.html": render_html(report)}
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
