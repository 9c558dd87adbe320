"""The tables of a report by format, worst first: means with intervals, and case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.metrics.registry import METRICS, headline, lower_is_better
from harness.records import Aggregate
from harness.report.document import Report
from harness.report.overview import link_of
from harness.report.sample_document import CaseRow, ReportSample
from harness.report.wording import (
    interval,
    metrics_of,
    number,
    span,
    verdicts_of,
    worst_first,
)

#: Columns that are shown at once; the others are behind "all metrics".
COLUMNS = 6
#: Cells of the grid of cases; a longer one is cut to its most telling cases.
GRID_CELLS = 3600
#: The letters of ``CaseRow``: symbol, what it means, and whether it is a failure.
OUTCOMES = {
    "r": ("✓", "right", False),
    "w": ("✗", "wrong", True),
    "e": ("∅", "empty answer", True),
    "n": ("∞", "never stopped", True),
    "l": ("!", "leaks control text", True),
    "-": ("–", "not scored", False),
}


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a metric's values are between its two ends, in percent."""

    low: float
    high: float

    def at(self, value: float | None) -> int | None:
        if value is None or self.high <= self.low:
            return None
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))))


def column_metrics(report: Report) -> tuple[list[str], list[str]]:
    """The metrics of the first six columns, and the others.

    Of more than six headline metrics those come first that are not the same in every format.
    """
    every = metrics_of(report)
    cells = [cell for run in report.runs for cell in run.cells if cell.mean is not None]
    main = [name for name in headline(cell.metric for cell in cells) if name in every] or every
    if len(main) > COLUMNS:
        telling = [name for name in main if len({c.mean for c in cells if c.metric == name}) > 1]
        kept = [*telling, *(name for name in main if name not in telling)][:COLUMNS]
        main = [name for name in main if name in kept]
    return main, [name for name in every if name not in main]


def format_rows(report: Report, samples: Sequence[ReportSample]) -> list[dict[str, Any]]:
    """A row for each format, worst first: its verdicts, and a cell for each metric."""
    main, others = column_metrics(report)
    runs = [report.cells(index) for index in range(len(report.runs))]
    before = verdicts_of(report, 0) if len(runs) > 1 else {}
    native = report.model.native_format
    groups = {facts.id: facts.group for facts in report.formats}
    scales = {metric: _scale(report, metric) for metric in main}
    worst = _Worst(samples, report.runs[-1].label)
    anchors = worst.cases
    rows = []
    for verdict in worst_first(report.runs[-1].verdicts):
        name = verdict.format
        cells = []
        for metric in (*main, *others):
            values = [run.get((name, metric)) for run in runs]
            own = runs[-1].get((native, metric)) if native and native != name else None
            cell = _cell(values, metric, own, scales.get(metric))
            cells.append({**cell, "link": worst.link(name, metric)})
        was = before.get(name)
        rows.append(
            {
                "id": name,
                "group": groups[name],
                "word": verdict.word,
                "was": was.word if was is not None and was.word != verdict.word else "",
                "link": link_of(verdict, anchors),
                "cells": cells,
            }
        )
    return rows


class _Worst:
    """The sample that a cell leads to: of the last run, the one with its metric's worst value."""

    def __init__(self, samples: Sequence[ReportSample], run: str) -> None:
        self.cases: dict[str, set[str]] = {}
        self._found: dict[tuple[str, str], tuple[float, str]] = {}
        for sample in samples:
            self.cases.setdefault(sample.format, set()).add(sample.case)
            for metric, value in sample.scores.items() if sample.run == run else ():
                if value is None:
                    continue
                loss = value if lower_is_better(metric) else -value
                place = (sample.format, metric)
                if place not in self._found or loss > self._found[place][0]:
                    self._found[place] = (loss, sample.case)

    def link(self, name: str, metric: str) -> str:
        """The id of that sample; of the format's samples where none has the metric."""
        if name not in self.cases:
            return ""
        case = self._found.get((name, metric), (0.0, ""))[1]
        return f"s-{name}.{case}" if case else f"s-{name}"


def _scale(report: Report, metric: str) -> _Scale:
    """Rates from 0 to 1, others from the lowest to the highest end of an interval."""
    if metric not in METRICS or METRICS[metric].unit == "rate":
        return _Scale(0.0, 1.0)
    cells = [cell for run in report.runs for cell in run.cells if cell.metric == metric]
    ends = [end for cell in cells for end in (cell.low, cell.mean, cell.high) if end is not None]
    return _Scale(min(ends, default=0.0), max(ends, default=1.0))


def _cell(
    values: Sequence[Aggregate | None],
    metric: str,
    native: Aggregate | None,
    scale: _Scale | None,
) -> dict[str, Any]:
    """One metric in one format: its text, its interval, and whether it departs from native."""
    last = values[-1]
    means = [None if one is None else one.mean for one in values]
    text = " → ".join(number(mean, metric) for mean in means)
    if last is None or last.mean is None:
        title = "not measured" if last is None else interval(last)
        return {"text": text, "value": None, "between": "", "title": title, "way": "", "strip": ""}
    way = departs(last, native)
    return {
        "text": text,
        "value": last.mean,
        "between": f"n {last.n}" if last.low is None else span(last.low, last.high, metric),
        "title": interval(last),
        "way": way,
        "strip": "" if scale is None else _strip(last, means[:-1], native, scale),
    }


def departs(cell: Aggregate, native: Aggregate | None) -> str:
    """``worse`` or ``better`` where the interval leaves out what the native format has, else ""."""
    facts = METRICS.get(cell.metric)
    if native is None or native.mean is None or cell.low is None or cell.high is None:
        return ""
    if (facts and facts.worst is None) or cell.low <= native.mean <= cell.high:
        return ""
    worse = (cell.low > native.mean) == lower_is_better(cell.metric)
    return "worse" if worse else "better"


def _strip(
    cell: Aggregate, before: Sequence[float | None], native: Aggregate | None, scale: _Scale
) -> str:
    """The style of a cell's line: interval, value, earlier value and native value, in percent."""
    at = {
        "v": scale.at(cell.mean),
        "l": scale.at(cell.low),
        "h": scale.at(cell.high),
        "b": scale.at(before[-1]) if before else None,
        "n": scale.at(native.mean) if native is not None else None,
    }
    if at["l"] is None or at["h"] is None:
        at["l"] = at["h"] = at["v"]
    return ";".join(f"--{name}:{value}" for name, value in at.items() if value is not None)


def case_grid(report: Report, anchors: Mapping[str, set[str]]) -> dict[str, Any] | None:
    """Cases × formats, formats worst first, and first the cases that only some formats fail."""
    if not report.grid:
        return None
    names = [facts.id for facts in report.formats]
    order = [one.format for one in worst_first(report.runs[-1].verdicts)]
    columns = [names.index(name) for name in order]
    native = report.model.native_format
    own = names.index(native) if native in names else None
    ranked = sorted(report.grid, key=lambda row: _telling(row.outcomes[-1], own), reverse=True)
    most = max(10, GRID_CELLS // len(names))
    return {
        "formats": order,
        "rows": [_grid_row(row, columns, names, anchors) for row in ranked[:most]],
        "left_out": max(0, len(ranked) - most),
        "outcomes": OUTCOMES,
    }


def _telling(letters: str, own: int | None) -> tuple[bool, int]:
    """How much a case says of formats: right in the native one, and wrong in how many others."""
    failed = sum(OUTCOMES[letter][2] for letter in letters)
    right = letters[own] == "r" if own is not None else 0 < failed < len(letters)
    return right and failed > 0, failed


def _grid_row(
    row: CaseRow, columns: Sequence[int], names: Sequence[str], anchors: Mapping[str, set[str]]
) -> dict[str, Any]:
    cells = []
    for at in columns:
        course = [letters[at] for letters in row.outcomes]
        symbol, meaning, failed = OUTCOMES[course[-1]]
        changed = len(course) > 1 and course[0] != course[-1]
        was = OUTCOMES[course[0]]
        cells.append(
            {
                "symbol": f"{was[0]}→{symbol}" if changed else symbol,
                "title": f"{was[1]}, then {meaning}" if changed else meaning,
                "failed": failed,
                "link": f"s-{names[at]}.{row.case}"
                if row.case in anchors.get(names[at], ())
                else "",
            }
        )
    return {
        "case": row.case,
        "kind": row.kind,
        "question": row.question,
        "failed": sum(cell["failed"] for cell in cells),
        "cells": cells,
    }
