"""The document of a comparison: two evaluations, cell by cell. What its JSON holds, and the only thing that its page is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.report.document import read_table

COMPARISON_SCHEMA = "harness-comparison/1"


@dataclass(frozen=True)
class Comparison:
    """Two runs and their paired differences. The nested values are plain JSON objects; schema.json (``comparison``) names their keys.

    A cell whose ``format`` is none of ``formats`` is the mean over a group of them. ``note`` says why there are no samples, or fewer.
    """

    title: str
    created: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    formats: tuple[Mapping[str, Any], ...]
    cells: tuple[Mapping[str, Any], ...]
    samples: tuple[Mapping[str, Any], ...] = ()
    note: str = ""

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "comparison") -> Comparison:
        """Check the outer shape. Raises HarnessError for another schema or a missing part."""
        if table.get("schema") != COMPARISON_SCHEMA:
            raise HarnessError(
                f"schema {table.get('schema')!r} is not {COMPARISON_SCHEMA}",
                where=where,
                hint="compare the two again with this version",
            )
        missing = [
            name
            for name in ("title", "created", "before", "after", "formats", "cells")
            if name not in table
        ]
        if missing or not table["cells"]:
            raise HarnessError(f"the comparison lacks {', '.join(missing) or 'cells'}", where=where)
        given = {field.name: table[field.name] for field in fields(cls) if field.name in table}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        return cls(**values)


def comparison_json(comparison: Comparison) -> str:
    """Stable text: sorted keys, one value a line, a newline at the end; lone surrogates are escaped."""
    table = {field.name: getattr(comparison, field.name) for field in fields(comparison)}
    return (
        json.dumps(
            {"schema": COMPARISON_SCHEMA, **table}, indent=1, sort_keys=True, ensure_ascii=True
        )
        + "\n"
    )


def read_comparison(path: Path) -> Comparison:
    """Read a comparison's JSON. Raises HarnessError naming the file."""
    return Comparison.from_dict(read_table(path, "a comparison"), str(path))
