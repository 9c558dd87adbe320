"""report.md: short enough for a pull-request comment.

The files of a document, each written whole or not at all; and again from its JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError
from harness.report.comparison import COMPARISON_SCHEMA, Comparison, comparison_json
from harness.report.comparison_page import render_comparison
from harness.report.document import Report, read_table, to_json
from harness.report.page import render_html
from harness.report.sweep_document import SWEEP_SCHEMA, Sweep, read_sweep, sweep_verdict
from harness.report.sweep_map import write_sweep_map
from harness.report.wording import MAIN, WORD_MARKS, formats_of, number, path_of, verdict, words


def render_markdown(report: Report) -> str:
    """The verdict, the summary and one table. A pure function of the report."""
    cells = [report.cells(index) for index in range(len(report.runs))]
    labels = " → ".join(str(run["label"]) for run in report.runs)
    lines = [f"# {_plain(report.title)}", "", _plain(verdict(report)), ""]
    lines += [f"- {_plain(item['text'])}" for item in report.summary]
    lines += [f"- {_plain(text)}" for item in report.budget for text in item["text"]]
    lines += [f"- {_plain(sweep_verdict(Sweep.from_dict(report.sweep)))}"] if report.sweep else []
    lines += [
        "",
        f"Values are {labels}; rates from 0 to 1, `nll_excess` in nats a token beyond the native format.",
        "",
    ]
    lines += [
        "| format | group | " + " | ".join(MAIN) + " | compatibility |",
        "|---|---|" + "---:|" * len(MAIN) + "---|",
    ]
    for id, group in formats_of(report):
        values = [
            path_of(
                [
                    number(run[id, metric].mean if (id, metric) in run else None, metric)
                    for run in cells
                ]
            )
            for metric in MAIN
        ]
        word = path_of(
            [
                f"{WORD_MARKS[words(report, index)[id][0]]} {words(report, index)[id][0]}"
                for index in range(len(report.runs))
            ]
        )
        lines.append(f"| {id} | {group} | " + " | ".join(values) + f" | {word} |")
    smallest = [cell.n for run in cells for cell in run.values() if cell.n and cell.metric in MAIN]
    span = (
        "no"
        if not smallest
        else str(min(smallest))
        if min(smallest) == max(smallest)
        else f"{min(smallest)} to {max(smallest)}"
    )
    lines += [
        "",
        f"{span} cases a cell; 95 % intervals and samples in report.html. String matching is a lower bound on memorisation.",
        "",
    ]
    lines.append(
        f"Model `{_plain(str(report.model.get('name')))}`, {report.model.get('dtype')}, made {report.created} by harness {report.environment.get('harness')}."
    )
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown does not read as markup."""
    return "".join(
        "\\" + char if char in "\\`*_{}[]<>#|" else char for char in text.replace("\n", " ")
    )


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.md and report.html. Raises HarnessError when the folder cannot be written."""
    return _write(
        {
            "report.json": to_json(report),
            "report.md": render_markdown(report),
            "report.html": render_html(report),
        },
        folder,
    )


def write_comparison(comparison: Comparison, page: Path) -> list[Path]:
    """Write a comparison's page, and its JSON beside it. Raises HarnessError when the folder cannot be written."""
    return _write(
        {
            f"{page.stem}.json": comparison_json(comparison),
            page.name: render_comparison(comparison),
        },
        page.parent,
    )


def write_again(source: Path, folder: Path, *, sweep: Path | None = None) -> list[Path]:
    """Write the pages of a report, a sweep or a comparison from its JSON; a report may be given a sweep's folder to show its map.

    Raises HarnessError for what is none of them.
    """
    table = read_table(source, "a report")
    schema = table.get("schema")
    is_sweep = schema == SWEEP_SCHEMA or (
        schema is None and "points" in table
    )  # of before there were schemas
    if sweep is not None and (is_sweep or schema == COMPARISON_SCHEMA):
        raise HarnessError(
            "a sweep's map is added to a report",
            where=str(source),
            hint="give a report.json, or leave --sweep out",
        )
    if schema == COMPARISON_SCHEMA:
        return write_comparison(
            Comparison.from_dict(table, str(source)), folder / f"{source.stem}.html"
        )
    if is_sweep:
        folder.mkdir(parents=True, exist_ok=True)
        return write_sweep_map(Sweep.from_dict(table, str(source)), folder)
    report = Report.from_dict(table, str(source))
    return write_report(
        report if sweep is None else replace(report, sweep=read_sweep(sweep).as_dict()), folder
    )


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
        raise HarnessError(
            f"cannot write the report: {error.strerror}", where=str(folder)
        ) from None
    return paths
