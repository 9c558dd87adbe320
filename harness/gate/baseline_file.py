"""A baseline as a text file that can be reviewed in a diff: sorted JSON, one cell a line, one case a line."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.gate.baseline import Baseline, MetricScores, FormatFact

SCHEMA = 2
#: What harness eval writes beside its report: the same file as a baseline, so that any evaluation can be compared or kept.
SCORES_FILE = "scores.json"
_TEXTS = ("name", "model", "adapter")
_TABLES = ("environment", "settings", "formats", "cases")
_KEYS = ("schema", *_TEXTS, "native", *_TABLES, "cells")
_CELL_KEYS = ("format", "metric", "mean", "low", "high", "n", "cases", "values")
_DIGITS: Mapping[str, float | None] = {"0": 0.0, "1": 1.0, "-": None}
_ANEW = "delete the file and make it anew with --update-baseline"


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write the whole file beside its place and rename it, so that a reader never sees half of one.

    Raises HarnessError when the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(baseline_text(baseline))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise HarnessError(
            f"cannot write the baseline: {error.strerror}", where=str(path)
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def baseline_text(baseline: Baseline) -> str:
    """The file's text. The same numbers always give the same bytes."""
    formats = {id: asdict(fact) for id, fact in baseline.formats.items()}
    entries = [
        f'"schema": {SCHEMA}',
        *(f'"{key}": {json.dumps(getattr(baseline, key))}' for key in (*_TEXTS, "native")),
        f'"environment": {json.dumps(dict(baseline.environment))}',
        f'"settings": {json.dumps(dict(baseline.settings))}',
        '"formats": ' + _block(_entries(formats), "{}", " "),
        '"cases": '
        + _block(
            [
                f"{json.dumps(kind)}: " + _block(_entries(ids), "{}", "  ")
                for kind, ids in baseline.cases.items()
            ],
            "{}",
            " ",
        ),
        '"cells": ' + _block([json.dumps(_cell_row(cell)) for cell in baseline.cells], "[]", " "),
    ]
    return _block(entries, "{}", "") + "\n"


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises HarnessError with the file and the place in it for whatever is not one."""
    where = str(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise HarnessError(f"cannot read the baseline: {error.strerror}", where=where) from None
    except json.JSONDecodeError as error:
        raise HarnessError(
            f"not JSON: {error.msg} at column {error.colno}",
            where=f"{path}:{error.lineno}",
            hint=_ANEW,
        ) from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # not UTF-8, NaN, an integer of thousands of digits, nesting without end
        raise HarnessError(f"not a baseline: {error}", where=where, hint=_ANEW) from None
    if not isinstance(document, dict) or "schema" not in document:
        raise HarnessError("not a baseline: it has no schema", where=where, hint=_ANEW)
    if document["schema"] != SCHEMA:
        raise HarnessError(
            f"schema {document['schema']!r}, this version reads {SCHEMA}", where=where, hint=_ANEW
        )
    try:
        return _parse(document)
    except (ValueError, OverflowError) as error:
        raise HarnessError(str(error), where=where, hint=_ANEW) from None


def _parse(document: dict[str, Any]) -> Baseline:
    _keys(document, _KEYS, "the file")
    for key in _TEXTS:
        _is(document[key], str, key)
    for key in _TABLES:
        _is(document[key], dict, key)
    if document["native"] is not None:
        _is(document["native"], str, "native")
    for kind, ids in document["cases"].items():
        for id, digest in _is(ids, dict, f"cases {kind}").items():
            _is(digest, str, f"cases {kind} {id}")
    return Baseline(
        name=document["name"],
        model=document["model"],
        adapter=document["adapter"],
        native=document["native"],
        environment=document["environment"],
        settings=document["settings"],
        formats={id: _format(row, f"formats {id}") for id, row in document["formats"].items()},
        cases=document["cases"],
        cells=tuple(
            _cell(row, f"cells[{index}]")
            for index, row in enumerate(_is(document["cells"], list, "cells"))
        ),
    )


def _format(row: Any, where: str) -> FormatFact:
    _keys(_is(row, dict, where), ("digest", "group", "rendered", "facts"), where)
    facts = {
        name: _is(value, bool, f"{where} {name}")
        for name, value in _is(row["facts"], dict, where).items()
    }
    return FormatFact(
        _is(row["digest"], str, where), row["group"], _is(row["rendered"], str, where), facts
    )


def _cell(row: Any, where: str) -> MetricScores:
    _keys(_is(row, dict, where), _CELL_KEYS, where)
    for key in ("format", "metric", "cases"):
        _is(row[key], str, f"{where} {key}")
    for key in ("mean", "low", "high"):
        _number(row[key], f"{where} {key}")
    if type(row["n"]) is not int:
        raise ValueError(f"{where} n: {row['n']!r} is no whole number")
    return MetricScores(
        row["format"],
        row["metric"],
        float(row["mean"]),
        float(row["low"]),
        float(row["high"]),
        row["n"],
        row["cases"],
        _values(row["values"], f"{where} values"),
    )


def _cell_row(cell: MetricScores) -> dict[str, Any]:
    return {
        "format": cell.format,
        "metric": cell.metric,
        "mean": cell.mean,
        "low": cell.low,
        "high": cell.high,
        "n": cell.n,
        "cases": cell.kind,
        "values": _vector(cell.values),
    }


def _vector(values: Iterable[float | None]) -> str | list[float | None]:
    """``"011-0"`` where every value is 0 or 1, with ``-`` for not scored; a list with null otherwise."""
    found = list(values)
    if all(value in (None, 0.0, 1.0) for value in found):
        return "".join("-" if value is None else str(int(value)) for value in found)
    return found


def _values(vector: Any, where: str) -> tuple[float | None, ...]:
    if isinstance(vector, str):
        if not set(vector) <= set(_DIGITS):
            raise ValueError(f"{where}: only 0, 1 and - may stand in {vector!r}")
        return tuple(_DIGITS[mark] for mark in vector)
    return tuple(
        None if value is None else _number(value, where) for value in _is(vector, list, where)
    )


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: {value!r} is no finite number")
    return float(value)


def _is(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{where}: expected a {kind.__name__}, found {type(value).__name__}")
    return value


def _keys(row: Mapping[str, Any], wanted: Iterable[str], where: str) -> None:
    missing = [key for key in wanted if key not in row]
    extra = [key for key in row if key not in set(wanted)]
    if missing or extra:
        raise ValueError(
            f"{where}: "
            + "; ".join(
                [f"no {key!r}" for key in missing] + [f"unknown key {key!r}" for key in extra]
            )
        )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of a baseline")


def _entries(table: Mapping[str, Any]) -> list[str]:
    return [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()]


def _block(lines: list[str], brackets: str, indent: str) -> str:
    """Lines between brackets, one each, indented by one more than ``indent``."""
    if not lines:
        return brackets
    return (
        brackets[0]
        + "\n"
        + ",\n".join(f"{indent} {line}" for line in lines)
        + f"\n{indent}{brackets[1]}"
    )
