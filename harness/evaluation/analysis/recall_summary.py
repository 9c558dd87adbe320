"""The sentences on recall: what training rows gained on controls, and how much comes back."""

from __future__ import annotations

from collections.abc import Sequence

from harness.evaluation.analysis.recall_table import ALL_FORMATS, DEPTH, GAIN, LEVEL, SHARE
from harness.evaluation.results import Evaluation
from harness.report.document import RecallEntry, SummaryLine


def recall_lines(evaluations: Sequence[Evaluation]) -> list[SummaryLine]:
    """A line for the gain, for near-verbatim recall after half of the words, and for the depth.

    They are of the last evaluation; those before it give the course of a level.
    """
    table = evaluations[-1].recall
    if table is None:
        return []
    courses = [_over_formats(each) for each in evaluations]
    lines = []
    if gain := courses[-1].get(GAIN):
        lines.append(_gain(gain))
    for metric in (SHARE, DEPTH) if gain else (LEVEL, SHARE, DEPTH):
        course = [found[metric] for found in courses if metric in found]
        if metric in courses[-1]:
            lines.append(_level(metric, course))
    return lines


def recall_texts(evaluations: Sequence[Evaluation]) -> list[str]:
    """The sentences for the terminal; where there is none, why."""
    table = evaluations[-1].recall
    if table is None:
        return []
    lines = [line.text for line in recall_lines(evaluations)]
    return lines or [f"recall of the training set: {table.note or 'too few rows to say'}"]


def _over_formats(evaluation: Evaluation) -> dict[str, RecallEntry]:
    rows = evaluation.recall.rows if evaluation.recall else ()
    return {row.metric: row for row in rows if row.format == ALL_FORMATS}


def _gain(row: RecallEntry) -> SummaryLine:
    note = f"; {row.note}" if row.note else ""
    if row.excess is None:
        text = (
            f"recall of the training set: its answers gained {row.train:+.3f} nats a token over"
            f" the base{_range(row)}{note}"
        )
        return _line(row, row.train, text)
    text = (
        f"recall of the training set: its answers gained {row.train:+.3f} nats a token over the"
        f" base, controls never trained on {row.null:+.3f}; difference {row.excess:+.3f}"
        f"{_range(row)}: {_verdict(row)}{note}"
    )
    return _line(row, row.excess, text)


def _verdict(row: RecallEntry) -> str:
    if row.low is None:
        return "too few to say"
    return "memorised" if row.low > 0 else "no significant memory"


def _level(metric: str, course: Sequence[RecallEntry]) -> SummaryLine:
    last = course[-1]
    path = " → ".join(f"{row.excess:+.3f}" for row in course if row.excess is not None)
    note = f"; {last.note}" if last.note and metric == LEVEL else ""
    text = (
        f"recall of the training set, {metric}: {last.train:.3f} against {last.null:.3f} on"
        f" controls never trained on, excess {path}{_range(last)}{note}"
    )
    return _line(last, last.excess or 0.0, text)


def _range(row: RecallEntry) -> str:
    if row.low is None or row.high is None:
        return ""
    return f" (95 % interval {row.low:+.3f} to {row.high:+.3f})"


def _line(row: RecallEntry, value: float, text: str) -> SummaryLine:
    return SummaryLine(f"recall {row.metric}", value, row.low, row.high, row.n_train, text)
