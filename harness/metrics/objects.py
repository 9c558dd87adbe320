"""The first JSON object inside a text."""

from __future__ import annotations

import json
from typing import Any

_MOST_STARTS = 100


def first_object(text: str) -> dict[str, Any] | None:
    """The first JSON object that parses, wherever it begins; prose and code fences around it do not matter.

    Looks at the first 100 braces only, so that a text of braces takes no time.
    """
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(_MOST_STARTS):
        if at < 0:
            return None
        try:
            found, _end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        return found if isinstance(found, dict) else None
    return None


def has_members(wanted: Any, text: str) -> bool:
    """Whether the first JSON object of the text has the members of ``wanted`` (any object will do for ``True``).

    Texts are compared without case; 1 equals 1.0, but true is not 1.
    """
    found = first_object(text)
    if found is None:
        return False
    return wanted is True or all(key in found and _same(found[key], value) for key, value in wanted.items())


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and isinstance(found, str):
        return found.strip().casefold() == wanted.strip().casefold()
    if isinstance(wanted, dict) and isinstance(found, dict):
        return found.keys() == wanted.keys() and all(_same(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)
