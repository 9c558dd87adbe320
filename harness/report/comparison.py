"""The comparison document: two evaluations cell by cell; its JSON, from which its page is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from harness.records import Group, Outcome, Word
from harness.report.json_document import from_table, optional
from harness.report.sample_document import ReportSample

COMPARISON_SCHEMA: Literal["harness-comparison/1"] = "harness-comparison/1"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs, and what it was made with."""

    label: str
    name: str
    model: str
    adapter: str
    native: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ComparedFormat:
    """A format that occurs in the comparison, with its verdict before and after, where known."""

    id: str
    group: Group
    words: tuple[Word, Word] | None = optional()


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric in one format: the second run less the first, on the cases that both scored.

    A ``format`` that is none of the comparison's formats is the mean over a group. ``low`` and
    ``high`` are the 95 % interval of the difference, paired by case; ``allowed`` is what may be
    lost; ``p`` is one-sided, of no loss (or no gain), adjusted over all tests (Holm). An
    inconclusive one needs about ``needed`` cases to be decided (0: not known).
    """

    format: str
    metric: str
    outcome: Outcome
    before: float | None
    after: float | None
    delta: float | None
    low: float | None
    high: float | None
    allowed: float
    n: int
    p: float | None
    why: str
    worst_case: str
    needed: int = 0


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, cell by cell: what ``harness compare --html`` writes beside its page.

    ``samples`` hold the first run's answer and the second's, one after the other; ``note`` says why
    there are none.
    """

    title: str
    created: str
    before: Side
    after: Side
    formats: tuple[ComparedFormat, ...]
    cells: Annotated[tuple[Difference, ...], MinLen(1)]
    samples: tuple[ReportSample, ...] = ()
    note: str = ""
    schema: Literal["harness-comparison/1"] = COMPARISON_SCHEMA

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "comparison") -> Comparison:
        """A comparison from its JSON object. Raises HarnessError naming the key that is wrong."""
        return from_table(cls, table, where, "compare the two again with this version")
