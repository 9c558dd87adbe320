"""report.html: one self-contained page, readable without scripts; a pure function of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.metrics.registry import about, lower_is_better
from harness.records import Aggregate
from harness.report.chart import reliability_svg, spread_svg, training_svg
from harness.report.document import Report, Training
from harness.report.frame import HERE, render, shown_samples
from harness.report.json_document import as_table
from harness.report.sweep_map import sweep_values
from harness.report.wording import (
    LONGEST,
    WORD_SYMBOLS,
    counted_words,
    evidence_text,
    goodness,
    group_names,
    interval,
    metrics_of,
    number,
    ordered_formats,
    verdict_lines,
    verdicts_of,
)

_CHECKPOINT_ROWS = tuple(
    f"{metric}_{group}" for metric in ("nll", "hazard") for group in ("native", "seen", "held_out")
)
_ABOUT_REFERENCES = (
    "nll: cost of references, nats a token. hazard: probability of at least one off-language token "
    "along a reference."
)
_ABOUT_RECALL = (
    "Log-probability per token that training answers have gained since the first checkpoint, less "
    "the gain of controls that were never trained on. High in trained formats alone: learnt with "
    "the format. High in all: the content is memorised."
)
_ABOUT_NGRAMS = (
    "Share of an answer's five-word sequences that a greedy answer has, of training rows and of "
    "controls: it rises before whole answers come back."
)


def render_html(report: Report, live: str = "") -> str:
    """The page. Everything that comes from a model or a user is escaped and made visible."""
    facts = (report.model, report.settings, report.environment)
    return render_page(
        HERE / "page.html.jinja",
        report.training,
        title=report.title,
        skip="formats",
        live=live,
        report=report,
        verdict=counted_words(report),
        lines=verdict_lines(report.runs[-1].verdicts),
        metrics=[metric_head(metric) for metric in metrics_of(report)],
        groups=_groups(report),
        spread=Markup(spread_svg(report.spread)),  # noqa: S704  # matplotlib's, from numbers
        reliability=Markup(reliability_svg(report.confidence)),  # noqa: S704  # matplotlib escapes
        confidence=[(run.run, row) for run in report.confidence for row in run.formats or ()],
        samples=shown_samples(report.samples, [name for name, _ in ordered_formats(report)]),
        longest=LONGEST,
        symbols=WORD_SYMBOLS,
        sweep=sweep_values(report.sweep) if report.sweep else None,
        facts=[(key, value) for part in facts for key, value in as_table(part).items()],
    )


def render_page(template: Path, training: Training | None, **values: Any) -> str:
    """A page with a training's chart and tables: ``chart`` and ``checkpoints`` in the template."""
    chart = Markup(training_svg(training)) if training else ""  # noqa: S704  # matplotlib's
    return render(template, chart=chart, checkpoints=checkpoint_tables(training), **values)


def metric_head(metric: str) -> dict[str, Any]:
    """A metric as the head of a column."""
    return {"id": metric, "about": about(metric), "low": lower_is_better(metric)}


def checkpoint_tables(training: Training | None) -> list[dict[str, Any]]:
    """Tables by checkpoint: references and hazard, recall by format, and n-gram scores."""
    found = training.checkpoints if training else ()
    rows = [
        (name, [checkpoint.get(name) for checkpoint in found])
        for name in _CHECKPOINT_ROWS
        if any(name in checkpoint for checkpoint in found)
    ]
    recall = _by_name(found, "recall")
    gains = [(name, [_since(value, row[0]) for value in row]) for name, row in recall if row]
    epochs = [f"epoch {checkpoint['epoch']:g}" for checkpoint in found]
    tables = (
        ("References at each checkpoint", "metric", rows, "%.3g", _ABOUT_REFERENCES),
        ("Recall gained, format by checkpoint", "format", gains, "%+.2f", _ABOUT_RECALL),
        ("n-gram score", "side", _by_name(found, "ngram_score"), "%.2f", _ABOUT_NGRAMS),
    )
    names = ("caption", "corner", "rows", "form", "about")
    return [
        {"epochs": epochs, **dict(zip(names, table, strict=True))} for table in tables if table[2]
    ]


def _by_name(
    checkpoints: Sequence[Mapping[str, Any]], key: str
) -> list[tuple[str, list[float | None]]]:
    """A table of the checkpoints' values of one key, which are tables by name."""
    values = [checkpoint.get(key, {}) for checkpoint in checkpoints]
    names = dict.fromkeys(name for table in values for name in table)
    return [(name, [table.get(name) for table in values]) for name in names]


def _since(value: float | None, first: float | None) -> float | None:
    return None if value is None or first is None else value - first


def _groups(report: Report) -> list[dict[str, Any]]:
    """The heat table: groups → formats → cells, each cell with the values of all runs."""
    runs = [(report.cells(index), verdicts_of(report, index)) for index in range(len(report.runs))]
    metrics = metrics_of(report)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, group in ordered_formats(report):
        row = {
            "id": name,
            "verdicts": [found[name] for _, found in runs],
            "evidence": evidence_text(runs[-1][1][name].evidence),
            "cells": [
                [_heat_cell(cells.get((name, metric)), metric) for cells, _ in runs]
                for metric in metrics
            ],
        }
        found.setdefault(group, []).append(row)
    names = group_names(found)
    return [{"name": names[group], "rows": rows} for group, rows in found.items()]


def _heat_cell(cell: Aggregate | None, metric: str) -> dict[str, Any]:
    if cell is None:
        return {"text": "–", "title": "not measured", "heat": None, "value": None}
    return {
        "value": cell.mean,
        "text": number(cell.mean, metric),
        "title": interval(cell),
        "heat": goodness(cell.mean, metric),
    }
