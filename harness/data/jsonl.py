"""JSON lines with the place of every mistake."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import HarnessError


class Row(NamedTuple):
    """One row as it stands in its file. ``problem`` says why it is none, then ``value`` is None."""

    place: str
    number: int
    value: dict[str, Any] | None
    problem: str = ""


def jsonl_rows(path: Path) -> Iterator[Row]:
    """A row for each line that is not blank. Raises HarnessError when the file cannot be read."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield _parse(line, f"{path}:{number}", number)


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (``file:line``, object) for each line that is not blank. Raises HarnessError with that place."""
    for row in jsonl_rows(path):
        if row.value is None:
            raise HarnessError(row.problem, where=row.place, hint="each line is one JSON object")
        yield row.place, row.value


def read_text(path: Path) -> str:
    """The text of a file. Raises HarnessError when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"not UTF-8 at byte {error.start}", where=str(path)) from None


def _parse(line: str, place: str, number: int) -> Row:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return Row(place, number, None, f"not JSON: {error.msg} at column {error.pos + 1}")
    return Row(place, number, value) if isinstance(value, dict) else Row(place, number, None, f"a line is one JSON object, not a {type(value).__name__}")


def jsonl_files(names: Iterable[str]) -> list[Path]:
    """The files named, and the ``*.jsonl`` of the folders named. Raises HarnessError for what is neither or empty."""
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(path.glob("*.jsonl"))
            if not found:
                raise HarnessError("the folder holds no *.jsonl file", where=name)
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise HarnessError("no such file or folder", where=name)
    return files
