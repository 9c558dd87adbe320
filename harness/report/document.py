"""The report document: what report.json holds, and the only thing that the pages are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.records import Aggregate

SCHEMA = "harness-report/1"


@dataclass(frozen=True)
class Report:
    """A report. The nested values are plain JSON objects; harness/report/schema.json names their keys."""

    title: str
    created: str
    model: Mapping[str, Any]
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    formats: tuple[Mapping[str, Any], ...]
    runs: tuple[Mapping[str, Any], ...]
    summary: tuple[Mapping[str, Any], ...] = ()
    spread: tuple[Mapping[str, Any], ...] = ()
    across: tuple[Mapping[str, Any], ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()
    budget: tuple[Mapping[str, Any], ...] = ()
    recall: tuple[Mapping[str, Any], ...] = ()
    format_leak: tuple[Mapping[str, Any], ...] = ()
    confidence: tuple[Mapping[str, Any], ...] = ()
    depth: tuple[Mapping[str, Any], ...] = ()
    phrases: Mapping[str, Any] | None = None
    samples: tuple[Mapping[str, Any], ...] = ()
    training: Mapping[str, Any] | None = None
    sweep: Mapping[str, Any] | None = None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "report") -> Report:
        """Check the outer shape. Raises HarnessError for another schema or a missing part."""
        if table.get("schema") != SCHEMA:
            raise HarnessError(
                f"schema {table.get('schema')!r} is not {SCHEMA}",
                where=where,
                hint="make the report again with this version",
            )
        known = {field.name: field for field in fields(cls)}
        missing = [
            name
            for name in ("title", "created", "model", "environment", "settings", "formats", "runs")
            if name not in table
        ]
        if missing or not table["runs"]:
            raise HarnessError(f"the report lacks {', '.join(missing) or 'runs'}", where=where)
        values = {name: table[name] for name in known if name in table}
        shaped: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**shaped)

    def cells(self, run: int) -> dict[tuple[str, str], Aggregate]:
        """The cells of run number ``run``: (format, metric) → Aggregate."""
        return {(cell["format"], cell["metric"]): Aggregate(**cell) for cell in self.runs[run]["cells"]}


def to_json(report: Report) -> str:
    """Stable text: sorted keys, one value a line, a newline at the end; lone surrogates are escaped."""
    table = {field.name: getattr(report, field.name) for field in fields(report)}
    return (
        json.dumps({"schema": SCHEMA, **table}, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    )


def read_report(path: Path) -> Report:
    """Read a report.json. Raises HarnessError naming the file."""
    return Report.from_dict(read_table(path, "a report"), str(path))


def read_table(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file that should hold ``what``. Raises HarnessError naming the file."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(path)) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HarnessError(f"not JSON: {error}", where=str(path)) from None
    if not isinstance(table, dict):
        raise HarnessError(f"not {what}", where=str(path))
    return table
