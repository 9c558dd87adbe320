"""report.html: one self-contained page, readable without scripts. A pure function of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.report.chart import reliability_svg, spread_svg, training_svg
from harness.report.document import Report
from harness.report.frame import HERE, render, shown_samples
from harness.report.sweep_document import Sweep
from harness.report.sweep_map import sweep_values
from harness.report.wording import (
    LONGEST,
    LOWER_IS_BETTER,
    METRICS,
    WORD_MARKS,
    formats_of,
    goodness,
    interval,
    metrics_of,
    number,
    verdict,
    words,
)

_CHECKPOINT_ROWS = tuple(
    f"{measure}_{group}"
    for measure in ("nll", "hazard")
    for group in ("native", "seen", "held_out")
)


def render_page(template: Path, training: Mapping[str, Any] | None, **values: Any) -> str:
    """A page in this report's style with a training's chart and tables: ``style``, ``chart`` and ``checkpoints`` in the template."""
    chart = Markup(training_svg(training)) if training else ""  # noqa: S704  # matplotlib's
    return render(template, chart=chart, checkpoints=checkpoint_tables(training), **values)


def render_html(report: Report, live: str = "") -> str:
    """The page. Everything that comes from a model or a user is escaped and made visible."""
    return render_page(
        HERE / "page.html.jinja",
        report.training,
        title=report.title,
        skip="formats",
        live=live,
        report=report,
        verdict=verdict(report),
        metrics=[
            {"id": metric, "about": METRICS.get(metric, ""), "low": metric in LOWER_IS_BETTER}
            for metric in metrics_of(report)
        ],
        groups=_groups(report),
        spread=Markup(spread_svg(report.spread)),  # noqa: S704  # matplotlib's, from numbers and our own names
        reliability=Markup(reliability_svg(report.confidence)),  # noqa: S704  # matplotlib's; labels are escaped by it
        confidence=[
            {**row, "run": item["run"]}
            for item in report.confidence
            for row in item.get("formats", ())
        ],
        samples=shown_samples(report.samples, [id for id, _ in formats_of(report)]),
        longest=LONGEST,
        marks=WORD_MARKS,
        sweep=sweep_values(Sweep.from_dict(report.sweep, "the report's sweep"))
        if report.sweep
        else None,
    )


def checkpoint_tables(training: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What each checkpoint measured: references and hazard by group, and the recall matrix, format × checkpoint."""
    found = list((training or {}).get("checkpoints", []))
    shared = {"epochs": [f"{checkpoint['epoch']:g}" for checkpoint in found]}
    groups = [
        (name, [checkpoint.get(name) for checkpoint in found])
        for name in _CHECKPOINT_ROWS
        if any(name in checkpoint for checkpoint in found)
    ]
    formats = list(
        dict.fromkeys(format for checkpoint in found for format in checkpoint.get("recall", {}))
    )
    recall = [
        (format, [checkpoint.get("recall", {}).get(format) for checkpoint in found])
        for format in formats
    ]
    tables = []
    if groups:
        about = "nll: cost of references, nats a token. hazard: probability of at least one token of another script along a reference."
        tables.append(
            {
                **shared,
                "caption": "References at each checkpoint",
                "corner": "measure",
                "rows": groups,
                "form": "%.3g",
                "about": about,
            }
        )
    if recall:
        about = (
            "Log-probability per token of training answers, less that of twins that were never trained on: 0 without memory. "
            "High in trained formats alone: learnt with the format. High in all: the content is memorised."
        )
        tables.append(
            {
                **shared,
                "caption": "Recall excess, format by checkpoint",
                "corner": "format",
                "rows": recall,
                "form": "%+.2f",
                "about": about,
            }
        )
    return tables


def _groups(report: Report) -> list[dict[str, Any]]:
    """The heat table: groups → formats → cells, each cell with the values of all runs."""
    runs = [report.cells(index) for index in range(len(report.runs))]
    found: dict[str, list[dict[str, Any]]] = {}
    for id, group in formats_of(report):
        row = {
            "id": id,
            "words": [(words(report, index)[id]) for index in range(len(runs))],
            "cells": [
                [_cell(run.get((id, metric)), metric) for run in runs]
                for metric in metrics_of(report)
            ],
        }
        found.setdefault(group, []).append(row)
    return [{"name": group, "rows": rows} for group, rows in found.items()]


def _cell(cell: Any, metric: str) -> dict[str, Any]:
    if cell is None:
        return {"text": "–", "title": "not measured", "heat": None, "value": None}
    return {
        "value": cell.mean,
        "text": number(cell.mean, metric),
        "title": interval(cell),
        "heat": goodness(cell.mean, metric),
    }
