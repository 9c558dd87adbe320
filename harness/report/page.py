"""report.html: one self-contained page, readable without scripts. A pure function of the report."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from harness.report.chart import reliability_svg, spread_svg, training_svg
from harness.report.document import Report
from harness.report.tables import LOWER_IS_BETTER, METRICS, WORD_MARKS, formats_of, goodness, interval, metrics_of, number, verdict, words
from harness.report.text import visible

_HERE = Path(__file__).parent


_CHECKPOINT_ROWS = tuple(f"{measure}_{group}" for measure in ("nll", "hazard") for group in ("native", "seen", "held_out"))


@lru_cache
def _template(path: Path) -> Template:
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters["visible"] = visible
    return env.from_string(path.read_text(encoding="utf-8"))


def render_page(template: Path, training: Mapping[str, Any] | None, **values: Any) -> str:
    """A page in this report's style with a training's chart and tables: ``style``, ``chart`` and ``checkpoints`` in the template."""
    page = _template(template).render(
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704  # our own file
        chart=Markup(training_svg(training)) if training else "",  # noqa: S704  # matplotlib's
        checkpoints=checkpoint_tables(training),
        **values,
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def render_html(report: Report, live: str = "") -> str:
    """The page. Everything that comes from a model or a user is escaped and made visible.

    ``live`` is the version of a page that is served: its script asks the server for another one and loads it.
    """
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return render_page(
        _HERE / "page.html.jinja",
        report.training,
        report=report,
        script=Markup(script),  # noqa: S704  # our own file
        script_digest=source_digest(script),
        live=live,
        verdict=verdict(report),
        metrics=[{"id": metric, "about": METRICS.get(metric, ""), "low": metric in LOWER_IS_BETTER} for metric in metrics_of(report)],
        groups=_groups(report),
        spread=Markup(spread_svg(report.spread)),  # noqa: S704  # matplotlib's, from numbers and our own names
        reliability=Markup(reliability_svg(report.confidence)),  # noqa: S704  # matplotlib's; labels are escaped by it
        confidence=[{**row, "run": item["run"]} for item in report.confidence for row in item.get("formats", ())],
        samples=_samples(report),
        marks=WORD_MARKS,
    )


def source_digest(script: str) -> str:
    """A script as a Content-Security-Policy allows it: by the digest of its text, so that no other one runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def checkpoint_tables(training: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What each checkpoint measured: references and hazard by group, and the recall matrix, format × checkpoint."""
    found = list((training or {}).get("checkpoints", []))
    shared = {"epochs": [f"{checkpoint['epoch']:g}" for checkpoint in found]}
    groups = [(name, [checkpoint.get(name) for checkpoint in found]) for name in _CHECKPOINT_ROWS if any(name in checkpoint for checkpoint in found)]
    formats = list(dict.fromkeys(format for checkpoint in found for format in checkpoint.get("recall", {})))
    recall = [(format, [checkpoint.get("recall", {}).get(format) for checkpoint in found]) for format in formats]
    tables = []
    if groups:
        about = "nll: cost of references, nats a token. hazard: probability of at least one token of another script along a reference."
        tables.append({**shared, "caption": "References at each checkpoint", "corner": "measure", "rows": groups, "form": "%.3g", "about": about})
    if recall:
        about = (
            "Log-probability per token of training answers, less that of twins that were never trained on: 0 without memory. "
            "High in trained formats alone: learnt with the format. High in all: the content is memorised."
        )
        tables.append({**shared, "caption": "Recall excess, format by checkpoint", "corner": "format", "rows": recall, "form": "%+.2f", "about": about})
    return tables


def _groups(report: Report) -> list[dict[str, Any]]:
    """The heat table: groups → formats → cells, each cell with the values of all runs."""
    runs = [report.cells(index) for index in range(len(report.runs))]
    found: dict[str, list[dict[str, Any]]] = {}
    for id, group in formats_of(report):
        row = {
            "id": id,
            "words": [(words(report, index)[id]) for index in range(len(runs))],
            "cells": [[_cell(run.get((id, metric)), metric) for run in runs] for metric in metrics_of(report)],
        }
        found.setdefault(group, []).append(row)
    return [{"name": group, "rows": rows} for group, rows in found.items()]


def _cell(cell: Any, metric: str) -> dict[str, Any]:
    if cell is None:
        return {"text": "–", "title": "not measured", "heat": None, "value": None}
    return {"value": cell.mean, "text": number(cell.mean, metric), "title": interval(cell), "heat": goodness(cell.mean, metric)}


def _samples(report: Report) -> list[dict[str, Any]]:
    """Samples by format and case, the runs beside each other."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for sample in report.samples:
        shown = {**sample, "pieces": _pieces(str(sample["answer"]), sample.get("marks", []))}
        found.setdefault(sample["format"], {}).setdefault(sample["case"], []).append(shown)
    order = [id for id, _ in formats_of(report)]
    return [{"format": id, "cases": [{"id": case, "runs": runs} for case, runs in found[id].items()]} for id in order if id in found]


def _pieces(answer: str, marks: list[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The answer cut into (text, mark's kind, note); overlapping marks keep the first."""
    pieces: list[tuple[str, str, str]] = []
    at = 0
    shown = answer[:2000]
    for mark in marks:
        start, end = int(mark["start"]), min(int(mark["end"]), len(shown))
        if start < at or start >= end:
            continue
        if start > at:
            pieces.append((visible(shown[at:start]), "", ""))
        if pieces and pieces[-1][1:] == (mark["kind"], str(mark.get("note", ""))) and start == at:
            pieces[-1] = (pieces[-1][0] + visible(shown[start:end]), *pieces[-1][1:])
        else:
            pieces.append((visible(shown[start:end]), str(mark["kind"]), str(mark.get("note", ""))))
        at = end
    pieces.append((visible(answer[at:], 2000 - min(at, 1999)), "", ""))
    return [piece for piece in pieces if piece[0]]
