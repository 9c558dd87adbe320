"""Which training rows have in an answer what an audit found, where the rows are known.

What many rows have was taught as a habit. What one row has is recited from it.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def rows_with(candidate: Candidate, rows: Sequence[Conversation]) -> RowsWithIt:
    """The rows of which an answer, or a thought, has what the candidate says."""
    found = [
        row.place
        for row in rows
        if any(candidate.is_in(one.written) for one in row.messages if one.role == "assistant")
    ]
    return RowsWithIt(len(found), len(rows), found[0] if found else "")
