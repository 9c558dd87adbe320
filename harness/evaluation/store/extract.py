"""Rows of a results file for people and other programs: scores, and cells with their addresses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError
from harness.evaluation.store.database import connect_to_read, file_errors
from harness.extras import require
from harness.files import atomic_file

Table = Literal["scores", "cells"]
Row = dict[str, Any]

_ENGINE = dict.fromkeys(
    ("model", "adapter", "tokenizer", "dtype", "quantisation", "arithmetic", "backend", "device"),
    "string",
)
_PLACE = dict.fromkeys(("format", "format_digest", "case", "case_digest", "probe"), "string")
#: What ran. ``name`` is the model's, for people.
ENGINE_COLUMNS = ("name", *_ENGINE)
#: The columns of each table with their Arrow types. A cell with options has a row for each.
COLUMNS: dict[Table, dict[str, str]] = {
    "scores": {
        "run": "string",
        "name": "string",
        **_ENGINE,
        **_PLACE,
        "metric": "string",
        "value": "float64",
        "why": "string",
    },
    "cells": {
        **_ENGINE,
        **_PLACE,
        "share": "float64",
        "settings": "string",
        "option": "int32",
        "logprob": "float64",
        "tokens": "int32",
        "text": "string",
        "finish": "string",
        "stop": "string",
        "token_logprobs": "list<float64>",
        "token_ids": "list<int64>",
        "off_script": "list<float64>",
    },
}
_SELECT_ENGINE = """engine.model, engine.adapter, engine.tokenizer, engine.dtype,
  coalesce(json_extract(engine.facts, '$.quantisation'), ''),
  coalesce(json_extract(engine.facts, '$.arithmetic'), ''), engine.backend, engine.device"""
_SELECT: dict[Table, str] = {
    "scores": f"""SELECT run.label, run.name, {_SELECT_ENGINE}, format.name, format.digest,
        item.name, item.digest, item.kind, metric.name, score.value, score.why
        FROM score JOIN run ON run.id = score.run JOIN engine ON engine.id = run.engine
        JOIN format ON format.id = score.format JOIN item ON item.id = score.item
        JOIN metric ON metric.id = score.metric
        ORDER BY run.id, format.name, metric.id, item.id""",  # noqa: S608  # columns of ours
    "cells": f"""SELECT {_SELECT_ENGINE}, format.name, format.digest,
        item.name, item.digest, cell.probe, cell.share, settings.facts, cell.payload
        FROM cell JOIN engine ON engine.id = cell.engine JOIN format ON format.id = cell.format
        JOIN item ON item.id = cell.item JOIN settings ON settings.id = cell.settings
        ORDER BY engine.id, format.name, cell.probe, item.id, cell.share""",  # noqa: S608
}
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows: each field holds names or globs, none for all."""

    run: tuple[str, ...] = ()
    format: tuple[str, ...] = ()
    case: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()
    metric: tuple[str, ...] = ()

    def accepts(self, row: Row) -> bool:
        """Whether a row matches in every column that it has."""
        return all(
            any(fnmatchcase(row[field.name], pattern) for pattern in patterns)
            for field in fields(self)
            if (patterns := getattr(self, field.name)) and field.name in row
        )


def rows(path: Path, table: Table, where: RowFilter) -> Iterator[Row]:
    """The rows of one table of a results file, one after the other."""
    names = list(COLUMNS[table])
    with closing(connect_to_read(path)) as db, file_errors(path):
        for values in db.execute(_SELECT[table]):
            address = values if table == "scores" else values[:-1]
            row = dict(zip(names, address, strict=False))
            if not where.accepts(row):
                continue
            if table == "scores":
                yield row
            else:
                yield from ({**row, **result} for result in _readable(values[-1], path))


def _readable(payload: str, path: Path) -> list[Row]:
    """The result of one cell. Raises HarnessError for one that was damaged."""
    try:
        return list(_results(payload))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise HarnessError(
            "a stored result cannot be read",
            where=str(path),
            hint="the same harness eval computes it again",
        ) from None


def _results(payload: str) -> Iterator[Row]:
    """The result of one cell: an answer, or the log-probability of each of its options."""
    result = json.loads(payload)
    if isinstance(result, dict):
        nothing = dict.fromkeys(("option", "logprob", "token_logprobs"))
        yield {**nothing, **result, "tokens": len(result["token_ids"])}
        return
    for option, scoring in enumerate(result):
        nothing = dict.fromkeys(("text", "finish", "stop", "token_ids"))
        yield {"option": option, **nothing, **scoring}


def summarise_rows(table_rows: Iterable[Row], table: Table) -> list[Row]:
    """The mean of each run, engine, format and metric, or the cells of each format and probe."""
    scores = table == "scores"
    keys = (
        ("run", "name", *_ENGINE, "format", "metric") if scores else (*_ENGINE, "format", "probe")
    )
    groups: dict[tuple[str, ...], list[Any]] = {}
    for row in table_rows:
        value = row["value"] if scores else row["option"]
        groups.setdefault(tuple(row[key] for key in keys), []).append(value)
    summarise = _mean if scores else _count
    return [
        {**dict(zip(keys, place, strict=True)), **summarise(values)}
        for place, values in groups.items()
    ]


def _mean(values: list[float | None]) -> Row:
    scored = [value for value in values if value is not None]
    return {
        "mean": sum(scored) / len(scored) if scored else None,
        "n": len(scored),
        "not_scored": len(values) - len(scored),
    }


def _count(options: list[int | None]) -> Row:
    """Cells, of which those with options have several rows."""
    return {"cells": sum(not option for option in options)}


def export(table_rows: Iterable[Row], table: Table, to: str, out: Path) -> int:
    """Write rows to a file and return how many; a failure leaves no file."""
    write: Callable[[Iterable[Row], Table, Path], int] = {
        "csv": _csv,
        "jsonl": _jsonl,
        "parquet": _parquet,
    }[to]
    with atomic_file(out) as partial:
        return write(table_rows, table, partial)


def _csv(table_rows: Iterable[Row], table: Table, out: Path) -> int:
    """Lists become JSON, and None an empty field."""
    n = 0
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS[table]))
        writer.writeheader()
        for row in table_rows:
            n += 1
            writer.writerow(
                {
                    name: json.dumps(value) if isinstance(value, list) else value
                    for name, value in row.items()
                }
            )
    return n


def _jsonl(table_rows: Iterable[Row], table: Table, out: Path) -> int:
    n = 0
    with out.open("w", encoding="utf-8") as file:
        for row in table_rows:
            n += 1
            ordered = {name: row[name] for name in COLUMNS[table]}
            file.write(json.dumps(ordered, ensure_ascii=False) + "\n")
    return n


def _parquet(table_rows: Iterable[Row], table: Table, out: Path) -> int:
    require("pyarrow", "writing Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "string": pa.string(),
        "float64": pa.float64(),
        "int32": pa.int32(),
        "list<float64>": pa.list_(pa.float64()),
        "list<int64>": pa.list_(pa.int64()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS[table].items()])
    n = 0
    waiting = iter(table_rows)
    with pq.ParquetWriter(out, schema) as writer:
        while part := list(islice(waiting, _BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(part, schema=schema))
            n += len(part)
    return n
