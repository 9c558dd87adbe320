"""The rows of a results file, for a look or for another program: measures and stored cells, each with its whole address."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from harness.evaluation.store.results_file import connect_to_read, file_errors
from harness.extras import require
from harness.files import atomic_file

Table = Literal["scores", "cells"]
Row = dict[str, Any]

_ENGINE = {
    "model": "string", "adapter": "string", "tokenizer": "string", "dtype": "string", "quantisation": "string", "arithmetic": "string", "backend": "string", "device": "string",
}  # fmt: skip
_PLACE = {
    "format": "string",
    "format_digest": "string",
    "case": "string",
    "case_digest": "string",
    "probe": "string",
}
#: What ran. ``name`` is the model's for people.
ENGINE_COLUMNS = ("name", *_ENGINE)
#: The columns of each table with their Arrow types. A cell with options has a row for each.
COLUMNS: dict[Table, dict[str, str]] = {
    "scores": {"run": "string", "name": "string", **_ENGINE, **_PLACE, "metric": "string", "value": "float64", "why": "string"},
    "cells": {
        **_ENGINE, **_PLACE, "share": "float64", "settings": "string", "option": "int32", "logprob": "float64", "tokens": "int32",
        "text": "string", "finish": "string", "stop": "string", "token_logprobs": "list<float64>", "token_ids": "list<int64>", "off_script": "list<float64>",
    },
}  # fmt: skip
_ENGINE_SELECT = """engine.model, engine.adapter, engine.tokenizer, engine.dtype, coalesce(json_extract(engine.facts, '$.quantisation'), ''),
        coalesce(json_extract(engine.facts, '$.arithmetic'), ''), engine.backend, engine.device"""
_SELECT: dict[Table, str] = {
    "scores": "SELECT run.label, run.name, " + _ENGINE_SELECT + """, format.name, format.digest,
        item.name, item.digest, item.kind, metric.name, score.value, score.why
        FROM score JOIN run ON run.id = score.run JOIN engine ON engine.id = run.engine JOIN format ON format.id = score.format
        JOIN item ON item.id = score.item JOIN metric ON metric.id = score.metric ORDER BY run.id, format.name, metric.id, item.id""",  # noqa: S608  # columns of ours
    "cells": "SELECT " + _ENGINE_SELECT + """, format.name, format.digest,
        item.name, item.digest, cell.probe, cell.share, settings.facts, cell.payload
        FROM cell JOIN engine ON engine.id = cell.engine JOIN format ON format.id = cell.format JOIN item ON item.id = cell.item
        JOIN settings ON settings.id = cell.settings ORDER BY engine.id, format.name, cell.probe, item.id, cell.share""",  # noqa: S608
}  # fmt: skip
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows: each field a list of names or globs, empty for all."""

    run: tuple[str, ...] = ()
    format: tuple[str, ...] = ()
    case: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()
    metric: tuple[str, ...] = ()

    def accepts(self, row: Row) -> bool:
        """Whether a row is wanted. A field that the row has not is not asked."""
        wanted = (
            (name, getattr(self, name)) for name in ("run", "format", "case", "probe", "metric")
        )
        return all(
            any(fnmatchcase(row[name], pattern) for pattern in patterns)
            for name, patterns in wanted
            if patterns and name in row
        )


def rows(path: Path, table: Table, where: RowFilter) -> Iterator[Row]:
    """The rows of one table of a results file, one after the other."""
    names = list(COLUMNS[table])
    with closing(connect_to_read(path)) as db, file_errors(path):
        for values in db.execute(_SELECT[table]):
            if table == "scores":
                row = dict(zip(names, values, strict=True))
                if where.accepts(row):
                    yield row
                continue
            *address, payload = values
            row = dict(zip(names, address, strict=False))
            if where.accepts(row):
                yield from ({**row, **result} for result in _results(payload))


def _results(payload: str) -> Iterator[Row]:
    """What came of one cell: an answer, or the log-probability of each of its options."""
    found = json.loads(payload)
    if isinstance(found, dict):
        yield {
            **dict.fromkeys(("option", "logprob", "token_logprobs")),
            **found,
            "tokens": len(found["token_ids"]),
        }
        return
    for option, scoring in enumerate(found):
        yield {
            "option": option,
            **dict.fromkeys(("text", "finish", "stop", "token_ids")),
            **scoring,
        }


def summarise_rows(found: Iterable[Row], table: Table) -> list[Row]:
    """One row per run, engine, format and measure with its mean, or per engine, format and probe with its number of cells."""
    keys = (
        ("run", "name", *_ENGINE, "format", "metric")
        if table == "scores"
        else (*_ENGINE, "format", "probe")
    )
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in found:
        groups.setdefault(tuple(row[key] for key in keys), []).append(
            {"value": row["value"]} if table == "scores" else {"option": row["option"]}
        )
    if table == "cells":
        return [
            {
                **dict(zip(keys, place, strict=True)),
                "cells": sum(not row["option"] for row in group),
            }
            for place, group in groups.items()
        ]
    sums = []
    for place, group in groups.items():
        values = [row["value"] for row in group if row["value"] is not None]
        mean = sum(values) / len(values) if values else None
        sums.append(
            {
                **dict(zip(keys, place, strict=True)),
                "mean": mean,
                "n": len(values),
                "not_scored": len(group) - len(values),
            }
        )
    return sums


def export(found: Iterable[Row], table: Table, to: str, out: Path) -> int:
    """Write rows to a file and return how many. Written beside and renamed, so that a failure leaves nothing."""
    write: Callable[[Iterable[Row], Table, Path], int] = {
        "csv": _csv,
        "jsonl": _jsonl,
        "parquet": _parquet,
    }[to]
    with atomic_file(out) as partial:
        return write(found, table, partial)


def _csv(found: Iterable[Row], table: Table, out: Path) -> int:
    """Lists as JSON; what is not there is an empty field."""
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS[table]))
        writer.writeheader()
        n = 0
        for n, row in enumerate(found, 1):  # noqa: B007  # the last one is how many there were
            writer.writerow(
                {
                    name: json.dumps(value) if isinstance(value, list) else value
                    for name, value in row.items()
                }
            )
    return n


def _jsonl(found: Iterable[Row], table: Table, out: Path) -> int:
    n = 0
    with out.open("w", encoding="utf-8") as file:
        for n, row in enumerate(found, 1):  # noqa: B007
            file.write(
                json.dumps({name: row[name] for name in COLUMNS[table]}, ensure_ascii=False) + "\n"
            )
    return n


def _parquet(found: Iterable[Row], table: Table, out: Path) -> int:
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
    waiting = iter(found)
    with pq.ParquetWriter(out, schema) as writer:
        while part := list(islice(waiting, _BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(part, schema=schema))
            n += len(part)
    return n
