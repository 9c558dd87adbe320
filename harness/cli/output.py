"""What a command prints for a program: one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from harness.terminal import raw_stream, visible


def print_json(
    document: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None
) -> None:
    """Print a document as JSON, also with --quiet. Control characters are escaped.

    ``default`` makes a value that JSON does not have into one that it has.
    """
    text = json.dumps(document, ensure_ascii=False, indent=indent, default=default)
    stream = raw_stream(sys.stdout)
    try:
        stream.write(f"{visible(text)}\n")
    except UnicodeEncodeError:  # a terminal without these characters
        stream.write(json.dumps(document, indent=indent, default=default) + "\n")
    stream.flush()
