"""Which training rows have in an answer what an audit found, where the rows are known.

What many rows have was taught as a habit. What one row has is recited from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.audit.candidates import Candidate
from harness.conversation import Conversation


@dataclass(frozen=True, slots=True)
class RowsWithIt:
    """How many of the training rows have it, and the place (``file:line``) of the first that does.

    ``first`` is empty where none has it.
    """

    count: int
    rows: int
    first: str = ""


def rows_with(
    candidates: Iterable[Candidate], rows: Sequence[Conversation]
) -> dict[Candidate, RowsWithIt]:
    """For each candidate, the rows of which an answer, or a thought, has what it says."""
    places: dict[Candidate, list[str]] = {one: [] for one in candidates}
    for row in rows:
        answers = [one.written for one in row.messages if one.role == "assistant"]
        for candidate in {one for text in answers for one in places if one.is_in(text)}:
            places[candidate].append(row.place)
    return {
        one: RowsWithIt(len(found), len(rows), found[0] if found else "")
        for one, found in places.items()
    }
