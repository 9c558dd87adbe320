"""An evaluation as named numbers, for a trainer's log and for trackers."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from harness.evaluation.analysis.format_verdicts import verdicts
from harness.evaluation.analysis.summary import summary
from harness.evaluation.results import Evaluation
from harness.metrics.registry import headline
from harness.tracking import open_trackers


def logged_numbers(evaluation: Evaluation) -> dict[str, float]:
    """How many formats got each word, and the lines of the report's summary."""
    words = Counter(verdict.word for verdict in verdicts(evaluation))
    lines = {line.name: line.value for line in summary([evaluation])}
    named = {**{f"formats {word}": float(count) for word, count in words.items()}, **lines}
    return {
        re.sub(r"\W+", "_", name).strip("_"): round(float(value), 6)
        for name, value in named.items()
        if value is not None
    }


def numbers_by_format(evaluation: Evaluation) -> dict[str, float]:
    """The mean of each main metric in each format, as ``format/metric``."""
    main = set(headline())
    return {
        f"{cell.format}/{cell.metric}": cell.mean
        for cell in evaluation.aggregates
        if cell.metric in main and cell.mean is not None
    }


def track_evaluation(
    evaluation: Evaluation, names: tuple[str, ...], folder: Path, *, project: str, run_name: str
) -> None:
    """Send an evaluation to trackers as a run of one step."""
    facts = {"model": evaluation.model, "adapter": evaluation.adapter or ""}
    settings = {**facts, **evaluation.settings.as_dict(), **evaluation.fingerprint}
    with open_trackers(names, folder, project=project, run_name=run_name, settings=settings) as log:
        log({**logged_numbers(evaluation), **numbers_by_format(evaluation)}, step=0)
