"""Documents as JSON files: checked when read, and the same text for the same values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError, validation_error
from harness.files import read_json

T = TypeVar("T")


def optional() -> Any:
    """A field that is None where there is nothing to report, and then left out of the JSON."""
    return field(default=None, metadata={"left_out": True})


def read_table(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file that should hold ``what``. Raises HarnessError naming the file."""
    table = read_json(path)
    if not isinstance(table, dict):
        raise HarnessError(f"not {what}", where=str(path))
    return table


def from_table(kind: type[T], table: Mapping[str, Any], where: str, hint: str) -> T:
    """A document from its JSON object. Keys that it does not know are ignored.

    Raises HarnessError that names the file and the key; ``hint`` says how to make the file again
    when it has another schema.
    """
    from pydantic import TypeAdapter, ValidationError

    schema = next(f.default for f in fields(kind) if f.name == "schema")  # type: ignore[arg-type]  # a dataclass
    if table.get("schema") != schema:
        found = f"schema {table['schema']!r} is not" if "schema" in table else "no schema, expected"
        raise HarnessError(f"{found} {schema}", where, hint)
    try:
        return TypeAdapter(kind).validate_python(dict(table))
    except ValidationError as error:
        raise validation_error(error, where) from None


def as_table(document: Any) -> Any:
    """A document as plain JSON values."""
    if is_dataclass(document):
        return {
            f.name: as_table(value)
            for f in fields(document)
            if (value := getattr(document, f.name)) is not None or "left_out" not in f.metadata
        }
    if isinstance(document, Mapping):
        return {key: as_table(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [as_table(value) for value in document]
    return document


def to_json(document: Any) -> str:
    """Stable text: sorted keys, one value a line, lone surrogates escaped, a newline at the end."""
    return json.dumps(as_table(document), indent=1, sort_keys=True, ensure_ascii=True) + "\n"
