"""Evaluations → the report document, its files, and the table on the terminal."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.evaluation.analysis.across_formats import across_rows, changes
from harness.evaluation.analysis.compatibility import compatibility
from harness.evaluation.analysis.confidence import confidence_report
from harness.evaluation.analysis.depth import depth_rows
from harness.evaluation.analysis.phrase_report import phrase_report
from harness.evaluation.analysis.sample_answers import samples
from harness.evaluation.analysis.summary import spreads, summary
from harness.evaluation.results import Evaluation
from harness.evaluation.search.budget import budget_report
from harness.formats.render import render
from harness.metrics.registry import headline
from harness.records import Conversation, Format, Message
from harness.report.document import Report
from harness.report.write import write_report
from harness.version import __version__


def build_report(
    evaluations: Sequence[Evaluation],
    *,
    model: str,
    limit: int | None = None,
    training: dict[str, Any] | None = None,
) -> Report:
    """One report of one or two evaluations (before, after) of the same model on the same cases."""
    last = evaluations[-1]
    return Report.from_dict(
        {
            "schema": "harness-report/1",
            "title": f"Format compatibility of {last.model}",
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "model": {
                "name": last.model,
                "asked_for": model,
                "digest": last.fingerprint["model"],
                "dtype": " ".join(
                    filter(None, (last.fingerprint["dtype"], last.fingerprint.get("quantisation")))
                ),
                "native_format": last.native,
            },
            "environment": environment(),
            "settings": {
                **last.settings.as_dict(),
                "cases": len(last.cases),
                "limit_per_kind": limit,
                "backend": last.fingerprint["backend"],
            },
            "formats": [_format(format, last) for format in last.formats],
            "runs": [_run(evaluation) for evaluation in evaluations],
            "summary": [asdict(item) for item in summary(evaluations)],
            "spread": [
                {"run": e.label, "metric": metric, **asdict(found)}
                for e in evaluations
                for metric, found in spreads(e).items()
            ],
            "across": [
                asdict(row) for evaluation in evaluations for row in across_rows(evaluation)
            ],
            "changes": [asdict(change) for change in changes(*evaluations)]
            if len(evaluations) == 2
            else [],
            "budget": [
                found
                for evaluation in evaluations
                if (found := budget_report(evaluation)) is not None
            ],
            "recall": [
                {"run": e.label, **asdict(row)}
                for e in evaluations
                if e.recall
                for row in e.recall.rows
            ],
            "format_leak": [
                {"run": e.label, **e.recall.format_leak} for e in evaluations if e.recall
            ],
            "phrases": phrase_report(evaluations),
            "confidence": [confidence_report(evaluation) for evaluation in evaluations],
            "depth": [asdict(row) for evaluation in evaluations for row in depth_rows(evaluation)],
            "samples": [sample for evaluation in evaluations for sample in samples(evaluation)],
            "training": training,
        }
    )


def write_evaluation_report(
    evaluations: Sequence[Evaluation],
    folder: Path,
    *,
    model: str,
    limit: int | None = None,
    training: dict[str, Any] | None = None,
) -> list[Path]:
    """Write report.json, report.md and report.html."""
    return list(
        write_report(build_report(evaluations, model=model, limit=limit, training=training), folder)
    )


def environment() -> dict[str, Any]:
    """What the numbers were computed with."""
    import torch
    import transformers

    return {
        "harness": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _format(format: Format, evaluation: Evaluation) -> dict[str, Any]:
    example = Conversation(
        "example",
        (
            Message("user", "Hello"),
            Message("assistant", "Hi there"),
            Message("user", "How are you?"),
        ),
    )
    rendered = render(example, format, add_generation_prompt=True, bos_token="", eos_token="<eos>")
    return {
        "id": format.id,
        "family": format.family,
        "group": evaluation.groups[format.id],
        "digest": format.digest,
        "origin": format.origin,
        "stops": list(rendered.stops),
        "example": [[rendered.text[s.start : s.end], s.kind] for s in rendered.spans],
    }


def _run(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "label": evaluation.label,
        "adapter": Path(evaluation.adapter).name if evaluation.adapter else None,
        "cells": [asdict(cell) for cell in evaluation.aggregates],
        "compatibility": [asdict(item) for item in compatibility(evaluation)],
    }


def print_table(evaluations: Sequence[Evaluation]) -> None:
    """Format, group, then before → after for the main measures."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("format", no_wrap=True)
    table.add_column("group", no_wrap=True)
    for metric in headline():
        table.add_column(metric, justify="right", no_wrap=True)
    last = evaluations[-1]
    for format in last.formats:
        table.add_row(
            format.id,
            last.groups[format.id],
            *(_change(evaluations, format.id, metric) for metric in headline()),
        )
    console = Console(highlight=False)
    Console(
        width=max(console.width, 132) if not console.is_terminal else None, highlight=False
    ).print(table)
    for line in [
        line
        for evaluation in evaluations
        for line in (budget_report(evaluation) or {}).get("text", [])
    ]:
        print(line)


def _change(evaluations: Sequence[Evaluation], format: str, metric: str) -> str:
    cells = [evaluation.aggregate(format, metric) for evaluation in evaluations]
    return " → ".join(
        "–" if cell is None or cell.mean is None else f"{cell.mean:.2f}" for cell in cells
    )
