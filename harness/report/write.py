"""The files of a document, each written whole or not at all: report.md, the pages, their JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError
from harness.files import write_text
from harness.metrics.registry import METRICS, headline
from harness.report.comparison import COMPARISON_SCHEMA, Comparison
from harness.report.comparison_page import render_comparison
from harness.report.document import REPORT_FILE, Report
from harness.report.json_document import read_table, to_json
from harness.report.overview import adapter_lines
from harness.report.page import render_html
from harness.report.sweep_document import SWEEP_SCHEMA, Sweep, read_sweep, sweep_verdict
from harness.report.sweep_map import write_sweep_map
from harness.report.wording import (
    WORD_SYMBOLS,
    counted_words,
    group_names,
    markdown_text,
    number,
    verdict_lines,
    verdicts_of,
    worst_first,
)


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.md and report.html. Raises HarnessError when it cannot."""
    pages = {
        REPORT_FILE: to_json(report),
        "report.md": render_markdown(report),
        "report.html": render_html(report),
    }
    return _write(pages, folder)


def write_comparison(comparison: Comparison, page: Path) -> list[Path]:
    """Write a comparison's page, and its JSON beside it. Raises HarnessError when it cannot."""
    pages = {f"{page.stem}.json": to_json(comparison), page.name: render_comparison(comparison)}
    return _write(pages, page.parent)


def write_again(source: Path, folder: Path, *, sweep: Path | None = None) -> list[Path]:
    """Write the pages of a report, a sweep or a comparison from its JSON.

    ``sweep`` is a sweep's folder, whose map becomes a part of the report. Raises HarnessError for a
    file that is none of the three.
    """
    table = read_table(source, "a report")
    schema = table.get("schema")
    is_sweep = schema == SWEEP_SCHEMA or (schema is None and "points" in table)
    if sweep is not None and (is_sweep or schema == COMPARISON_SCHEMA):
        raise HarnessError(
            "--sweep adds a map to a report, and this is none",
            where=str(source),
            hint="give a report.json, or leave --sweep out",
        )
    if schema == COMPARISON_SCHEMA:
        page = folder / f"{source.stem}.html"
        return write_comparison(Comparison.from_dict(table, str(source)), page)
    if is_sweep:
        folder.mkdir(parents=True, exist_ok=True)
        return write_sweep_map(Sweep.from_dict(table, str(source)), folder)
    report = Report.from_dict(table, str(source))
    return write_report(replace(report, sweep=read_sweep(sweep)) if sweep else report, folder)


def render_markdown(report: Report) -> str:
    """The verdicts, the summary and one table, short enough for a pull-request comment."""
    cells = [report.cells(index) for index in range(len(report.runs))]
    verdicts = [verdicts_of(report, index) for index in range(len(report.runs))]
    metrics = headline(metric for run in cells for (_, metric), cell in run.items() if cell.n)
    labels = _arrows(run.label for run in report.runs)
    units = "".join(f", `{m}` in {METRICS[m].unit}" for m in metrics if METRICS[m].unit != "rate")
    lines = [f"# {markdown_text(report.title)}", ""]
    lines += [f"- {markdown_text(line)}" for line in adapter_lines(report)]
    ranked = worst_first(report.runs[-1].verdicts)
    lines += ["", markdown_text(counted_words(report)), ""]
    lines += [f"- {markdown_text(line)}" for line in verdict_lines(ranked)]
    lines += [""]
    lines += [f"- {markdown_text(item.text)}" for item in report.summary]
    lines += [f"- {markdown_text(text)}" for item in report.budget for text in item.text]
    lines += [f"- {markdown_text(sweep_verdict(report.sweep))}"] if report.sweep else []
    course = f"Values are {labels}; rates" if len(report.runs) > 1 else "Rates are"
    lines += ["", f"{course} from 0 to 1{units}.", ""]
    lines += [
        "| format | group | " + " | ".join(metrics) + " | verdict |",
        "|---|---|" + "---:|" * len(metrics) + "---|",
    ]
    group_of = {facts.id: facts.group for facts in report.formats}
    groups = group_names(group_of.values())
    for name in (one.format for one in ranked):
        values = [
            _arrows(
                number(run[name, metric].mean if (name, metric) in run else None, metric)
                for run in cells
            )
            for metric in metrics
        ]
        words = _arrows(f"{WORD_SYMBOLS[run[name].word]} {run[name].word}" for run in verdicts)
        lines.append(
            f"| {name} | {groups[group_of[name]]} | " + " | ".join(values) + f" | {words} |"
        )
    sizes = {c.n for run in cells for c in run.values() if c.n and c.metric in metrics} or {0}
    span = " to ".join(str(size) for size in sorted({min(sizes), max(sizes)}))
    lines += [
        "",
        f"{span} cases a cell; 95 % intervals and samples in report.html. "
        "String matching is a lower bound on memorisation.",
        "",
        f"Model `{markdown_text(report.model.name)}`, {report.model.dtype}, made {report.created} "
        f"by harness {report.environment.get('harness')}.",
    ]
    return "\n".join(lines) + "\n"


def _arrows(values: Iterable[str]) -> str:
    """``before → after``, or the one value."""
    return " → ".join(values)


def _write(pages: Mapping[str, str], folder: Path) -> list[Path]:
    paths = [folder / name for name in pages]
    for path, text in zip(paths, pages.values(), strict=True):
        valid = text.encode("utf-8", "replace").decode("utf-8")  # a model may write half a pair
        write_text(path, valid, what="report")
    return paths
