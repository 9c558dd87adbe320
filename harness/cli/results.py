"""harness results: look into a results file, or hand it to another program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from harness.cli.arguments import comma, parse
from harness.errors import EXIT_OK, HarnessError

if TYPE_CHECKING:
    from harness.evaluation.store.extract import Where

_WIDEST = 48
_SHOWN = {
    ("scores", False): ("run", "format", "metric", "mean", "n", "not_scored"),
    ("scores", True): ("run", "format", "case", "metric", "value", "why"),
    ("cells", False): ("format", "probe", "cells"),
    ("cells", True): (
        "format",
        "case",
        "probe",
        "share",
        "option",
        "logprob",
        "text",
        "finish",
        "stop",
    ),
}
"""Columns on the terminal; what ran is shown too where it is not the same in every row."""


@dataclass(frozen=True)
class ResultsOptions:
    file: Annotated[str, tyro.conf.Positional]
    """A results.sqlite, or the --out folder that holds it."""
    table: Literal["scores", "cells"] = "scores"
    """The measures of the last evaluation under each label, or everything that a model was asked and gave back."""
    run: tuple[str, ...] = ()
    """Labels of runs (evaluate; before and after in the demo). Names or globs with commas, as in the options below."""
    format: tuple[str, ...] = ()
    """Formats."""
    case: tuple[str, ...] = ()
    """Cases."""
    probe: tuple[str, ...] = ()
    """Kinds of question: choice, answer, reference, and continue among the cells."""
    metric: tuple[str, ...] = ()
    """Measures, such as choice,on_task,nll_*."""


@dataclass(frozen=True)
class QueryOptions(ResultsOptions):
    each: bool = False
    """Every row instead of means and counts."""
    json: bool = False
    """One JSON object a line, with every column."""


@dataclass(frozen=True)
class ExportOptions(ResultsOptions):
    out: Annotated[str, tyro.conf.Positional] = "results"
    """The file to write."""
    to: Literal["csv", "parquet", "jsonl"] = "csv"
    """Its kind. Parquet needs pyarrow."""


def query(args: list[str]) -> int:
    """Print what a results file holds."""
    options = parse(
        QueryOptions,
        args,
        "results query",
        "Print the measures or the cells that a results file holds.",
    )
    from harness.evaluation.store.extract import ENGINE_COLUMNS, rows, summed

    found = list(rows(_file(options), options.table, _where(options)))
    if not found:
        raise HarnessError(
            "no such row",
            where=options.file,
            hint="leave an option out, or see all with harness results query FILE",
        )
    shown = found if options.each else summed(found, options.table)
    if options.json:
        for row in shown:
            print(json.dumps(row, ensure_ascii=False))
        return EXIT_OK
    several = {
        name
        for name in shown[0]
        if name in ENGINE_COLUMNS and len({row[name] for row in shown}) > 1
    }
    _print(
        shown,
        [
            name
            for name in shown[0]
            if name in several or name in _SHOWN[options.table, options.each]
        ],
    )
    return EXIT_OK


def export(args: list[str]) -> int:
    """Write what a results file holds for another program."""
    options = parse(
        ExportOptions,
        args,
        "results export",
        "Write the measures or the cells of a results file as CSV, Parquet or JSON lines.",
    )
    from harness.evaluation.store import extract

    written = extract.export(
        extract.rows(_file(options), options.table, _where(options)),
        options.table,
        options.to,
        Path(options.out),
    )
    print(f"{options.out}: {written} rows")
    return EXIT_OK


def _file(options: ResultsOptions) -> Path:
    from harness.evaluation.settings import RESULTS_FILE

    path = Path(options.file)
    return path / RESULTS_FILE if path.is_dir() else path


def _where(options: ResultsOptions) -> Where:
    from harness.evaluation.store.extract import Where

    if options.metric and options.table == "cells":
        raise HarnessError(
            "--metric is for measures, and cells have none", hint="leave --table cells out"
        )
    return Where(
        *(comma(getattr(options, name)) for name in ("run", "format", "case", "probe", "metric"))
    )


def _print(shown: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """A plain table: numbers to the right, texts cut to one line."""
    lines = [list(names), *([_cell(row[name]) for name in names] for row in shown)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    numbers = [all(isinstance(row[name], int | float | None) for row in shown) for name in names]
    for line in lines:
        print(
            "  ".join(
                f"{text:>{width}}" if number else f"{text:{width}}"
                for text, width, number in zip(line, widths, numbers, strict=True)
            ).rstrip()
        )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
