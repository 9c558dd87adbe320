"""Read files of text and JSON that may be damaged: what is wrong is one line with its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

_SURROGATES = re.compile("[\ud800-\udfff]")


def read_text(path: Path, what: str = "") -> str:
    """The text of a file, without a byte order mark.

    Raises HarnessError, naming ``what`` it is, when it cannot be read or is not UTF-8.
    """
    verb = f"cannot read the {what}" if what else "cannot read"
    try:
        return path.read_text(encoding="utf-8-sig")
    except IsADirectoryError:
        raise HarnessError("a folder, where a file is expected", where=str(path)) from None
    except OSError as error:
        raise HarnessError(f"{verb}: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        wide = error.start == 0 and error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = "UTF-16, not UTF-8" if wide else f"not UTF-8 at byte {error.start}"
        raise HarnessError(found, where=str(path), hint="save it as UTF-8" * wide) from None
    except ValueError as error:  # a path with a null character
        raise HarnessError(f"{verb}: {error}", where=repr(str(path))) from None


def json_mistake(error: json.JSONDecodeError) -> str:
    """What is wrong with a JSON text, and in which column of its line."""
    return f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises HarnessError naming the file, and the line of a mistake."""
    try:
        return parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise HarnessError(json_mistake(error), where=f"{path}:{error.lineno}") from None
    except ValueError as error:
        raise HarnessError(f"not JSON: {error}", where=str(path)) from None


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises HarnessError as ``read_json``, and for anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise HarnessError("expected one JSON object", where=str(path))
    return value


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for a mistake, and for nesting without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def half_character(text: str) -> str:
    """The first half of a character (a lone surrogate) in a text as ``\\ud83d``, or "".

    No file can hold one. It is left of a text that was cut in the middle of a character.
    """
    found = _SURROGATES.search(text)
    return f"\\u{ord(found[0]):x}" if found else ""
