"""JSON lines with the place of every mistake."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import HarnessError


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (``file:line``, object) for each line that is not blank. Raises HarnessError with that place."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parse(line, f"{path}:{number}")
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"not UTF-8 at byte {error.start}", where=str(path)) from None


def _parse(line: str, place: str) -> tuple[str, dict[str, Any]]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise HarnessError(f"not JSON: {error.msg} at column {error.pos + 1}", where=place, hint="each line is one JSON object") from None
    if not isinstance(value, dict):
        raise HarnessError(f"a line is one JSON object, not a {type(value).__name__}", where=place)
    return place, value


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
