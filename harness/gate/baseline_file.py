"""A baseline as a text file for review in a diff: sorted JSON, one cell or case a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, ValidationError

from harness.errors import HarnessError, validation_error
from harness.files import json_mistake, write_text
from harness.gate.baseline import Baseline, BaselineEntry, FormatIdentity
from harness.records import Group, Word

SCHEMA = 2
#: What harness eval writes beside its report: a baseline of that evaluation.
SCORES_FILE = "scores.json"
_DIGITS: Mapping[str, float | None] = {"0": 0.0, "1": 1.0, "-": None}
_REMAKE = "make one with harness eval or --gate-update-baseline"


def _unpack(values: Any) -> Any:
    if not isinstance(values, str):
        return values
    if not set(values) <= set(_DIGITS):
        raise ValueError(f"expected only 0, 1 and -, not {values!r}")
    return [_DIGITS[digit] for digit in values]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class FormatRow(_Strict):
    """A format of the file."""

    digest: str
    group: Group
    rendered: str
    facts: dict[str, bool]


class CellRow(_Strict):
    """An entry of the file. ``values`` is ``"011-0"`` where all are 0, 1 or not scored (``-``)."""

    format: str
    metric: str
    mean: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    n: int
    cases: str
    values: Annotated[list[FiniteFloat | None], BeforeValidator(_unpack)]


class BaselineFile(_Strict):
    """The file without its ``schema``. ``grammar`` is left out where no format was drawn, ``words``
    in files of versions before 0.1."""

    name: str
    model: str
    adapter: str
    native: str | None
    environment: dict[str, Any]
    settings: dict[str, Any]
    formats: dict[str, FormatRow]
    cases: dict[str, dict[str, str]]
    grammar: list[str] = []
    words: dict[str, Word] = {}
    cells: list[CellRow]


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write the file in one step. Raises HarnessError when it cannot be written."""
    write_text(path, baseline_text(baseline), what="baseline")


def baseline_text(baseline: Baseline) -> str:
    """The file's text. The same numbers always give the same bytes."""
    formats = {format_id: asdict(fact) for format_id, fact in baseline.formats.items()}
    kinds = [
        f"{json.dumps(kind)}: {_block(_lines(digests), '{}', '  ')}"
        for kind, digests in baseline.cases.items()
    ]
    document = {
        "schema": SCHEMA,
        **{key: getattr(baseline, key) for key in ("name", "model", "adapter", "native")},
        "environment": dict(baseline.environment),
        "settings": dict(baseline.settings),
        **({"grammar": baseline.grammar} if baseline.grammar else {}),
    }
    lines = [
        *_lines(document),
        *([f'"words": {_block(_lines(baseline.words), "{}", " ")}'] if baseline.words else []),
        f'"formats": {_block(_lines(formats), "{}", " ")}',
        f'"cases": {_block(kinds, "{}", " ")}',
        f'"cells": {_block([json.dumps(_cell(entry)) for entry in baseline.entries], "[]", " ")}',
    ]
    return _block(lines, "{}", "") + "\n"


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises HarnessError with the file and the place in it for an invalid one."""
    where = str(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise HarnessError(f"cannot read the baseline: {error.strerror}", where) from None
    except json.JSONDecodeError as error:
        raise HarnessError(json_mistake(error), f"{path}:{error.lineno}", _REMAKE) from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"not UTF-8 at byte {error.start}", where, _REMAKE) from None
    except (ValueError, RecursionError) as error:  # NaN, an endless integer or nesting
        raise HarnessError(f"not a baseline: {error}", where, _REMAKE) from None
    if not isinstance(document, dict) or "schema" not in document:
        raise HarnessError("not a baseline: it has no schema", where, _REMAKE)
    if (schema := document.pop("schema")) != SCHEMA:
        raise HarnessError(f"schema {schema!r}, this version reads {SCHEMA}", where, _REMAKE)
    try:
        return _baseline(BaselineFile.model_validate(document))
    except ValidationError as error:
        known = {*BaselineFile.model_fields, *FormatRow.model_fields, *CellRow.model_fields}
        raise validation_error(error, where, _REMAKE, known) from None
    except ValueError as error:
        raise HarnessError(str(error), where, _REMAKE) from None


def _baseline(file: BaselineFile) -> Baseline:
    facts = dict(file)
    facts["formats"] = {key: FormatIdentity(**dict(row)) for key, row in file.formats.items()}
    facts["grammar"] = tuple(file.grammar)
    rows = facts.pop("cells")
    return Baseline(**facts, entries=tuple(map(_entry, rows)))


def _entry(row: CellRow) -> BaselineEntry:
    return BaselineEntry(
        row.format, row.metric, row.mean, row.low, row.high, row.n, row.cases, tuple(row.values)
    )


def _cell(entry: BaselineEntry) -> dict[str, Any]:
    packed = {"cases": entry.kind, "values": _pack(entry.values)}
    return {
        key: packed[key] if key in packed else getattr(entry, key) for key in CellRow.model_fields
    }


def _pack(values: tuple[float | None, ...]) -> str | tuple[float | None, ...]:
    if all(value in (None, 0.0, 1.0) for value in values):
        return "".join("-" if value is None else str(int(value)) for value in values)
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of a baseline")


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()]


def _block(lines: Iterable[str], brackets: str, indent: str) -> str:
    """Lines between brackets, one each, indented by one more than ``indent``."""
    body = ",\n".join(f"{indent} {line}" for line in lines)
    return f"{brackets[0]}\n{body}\n{indent}{brackets[1]}" if body else brackets
