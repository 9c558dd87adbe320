"""harness results: print a results file, or write it for another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from harness.cli.arguments import parse, split_commas
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError

if TYPE_CHECKING:
    from harness.evaluation.store.extract import RowFilter

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
"""(table, each row) → the columns on the terminal; model columns are added where they differ."""


@dataclass(frozen=True)
class ResultsOptions:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A results.sqlite, or the --out folder that contains it."""
    table: Literal["scores", "cells"] = "scores"
    """scores: the metrics of the last evaluation under each label. cells: every request to a model
    and its answer."""
    run: tuple[str, ...] = ()
    """Only these labels of runs (evaluate; before and after in the demo). Names or globs, separated
    by commas, as in the options below."""
    format: tuple[str, ...] = ()
    """Only these formats."""
    case: tuple[str, ...] = ()
    """Only these cases."""
    probe: tuple[str, ...] = ()
    """Only these kinds of request: choice, answer, reference; of cells also continue."""
    metric: tuple[str, ...] = ()
    """Only these metrics, such as choice,on_task,nll_*."""


@dataclass(frozen=True)
class QueryOptions(ResultsOptions):
    each: bool = False
    """Print every row instead of means and counts."""
    json: bool = False
    """Print a JSON list of rows, with every column."""


@dataclass(frozen=True)
class ExportOptions(ResultsOptions):
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = "results"
    """File to write."""
    to: Literal["csv", "parquet", "jsonl"] = "csv"
    """Kind of file. parquet needs pyarrow."""
    json: bool = False
    """Print {"file", "rows"} as JSON."""


def query(args: list[str]) -> int:
    """Print the metrics or the cells of a results file.

    Example: harness results query build/eval/my-model --metric 'choice,nll_*'
    """
    options = parse(QueryOptions, args, "results query", query.__doc__)
    from harness.evaluation.store.extract import ENGINE_COLUMNS, rows, summarise_rows

    found = list(rows(_file(options), options.table, _where(options)))
    if not found:
        raise HarnessError(
            "no row matches",
            where=options.file,
            hint="leave an option out; harness results query FILE shows all",
        )
    shown = found if options.each else summarise_rows(found, options.table)
    if options.json:
        print_json(list(shown))
        return EXIT_OK
    several = {
        name
        for name in shown[0]
        if name in ENGINE_COLUMNS and len({row[name] for row in shown}) > 1
    }
    columns = several | set(_SHOWN[options.table, options.each])
    _print(shown, [name for name in shown[0] if name in columns])
    return EXIT_OK


def export(args: list[str]) -> int:
    """Write the metrics or the cells of a results file as CSV, Parquet or JSON lines.

    Example: harness results export build/eval/my-model scores.csv
    """
    options = parse(ExportOptions, args, "results export", export.__doc__)
    from harness.evaluation.store import extract

    written = extract.export(
        extract.rows(_file(options), options.table, _where(options)),
        options.table,
        options.to,
        Path(options.out),
    )
    if options.json:
        print_json({"file": options.out, "rows": written})
    else:
        print(f"{options.out}: {written} rows")
    return EXIT_OK


def _file(options: ResultsOptions) -> Path:
    from harness.evaluation.settings import RESULTS_FILE

    path = Path(options.file)
    return path / RESULTS_FILE if path.is_dir() else path


def _where(options: ResultsOptions) -> RowFilter:
    from harness.evaluation.store.extract import RowFilter

    if options.metric and options.table == "cells":
        raise HarnessError(
            "--metric is for scores: cells have no metric", hint="leave --table cells out"
        )
    return RowFilter(
        *(
            split_commas(getattr(options, name))
            for name in ("run", "format", "case", "probe", "metric")
        )
    )


def _print(shown: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """A plain table: numbers right-aligned, texts cut to one line."""
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
