"""Notes on what was ignored in a row and what was parsed from its text."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from harness.data.refusals import RefusedRow
from harness.errors import nearest


@dataclass(slots=True)
class RowNotes:
    """Notes on one row; a collection counts the rows with each.

    ``ignored`` lists keys that are not used: columns of the row, ``messages[].KEY``,
    ``tool_calls[].KEY``. ``readings`` say what was parsed from a value that could be plain text.
    """

    ignored: set[str] = field(default_factory=set)
    readings: set[str] = field(default_factory=set)

    def ignore(
        self, given: Iterable[str], known: Collection[str], place: str, of: str = ""
    ) -> None:
        """Note unknown keys. Raises RefusedRow for one that looks like a typo."""
        for key in given:
            if key in known:
                continue
            if _is_slip(key, known):
                raise RefusedRow(
                    "unknown key", f"unknown key {key!r}", where=place, hint=nearest(key, known)
                )
            self.ignored.add(of + key)


def _is_slip(key: str, known: Iterable[str]) -> bool:
    """Whether the key nearly matches one of them; ``prompt_id`` is a column of its own."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    return bool(close) and not key.startswith(f"{close[0]}_") and not key.endswith(f"_{close[0]}")
