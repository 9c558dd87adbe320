"""What a report holds of single cases: a few answers as a whole, and how each case came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.records import Finish

#: A rendered text as pairs of [text, kind of span].
Pieces = tuple[tuple[str, str], ...]
SampleKind = Literal["choice", "answer", "reference", "call"]


@dataclass(frozen=True, slots=True)
class Highlight:
    """What was noticed in characters [start, end) of an answer."""

    start: int
    end: int
    kind: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ShownOption:
    """An option of a choice with its summed log-probability in nats; the highest is picked."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class ReportSample:
    """One answer of one run, with the prompt and its scores (null: not scored).

    ``kind``: a choice has ``options``, and the picked one as its answer; a reference has its own
    text as its answer. ``expected`` says what a right answer is. ``right`` is null where nothing
    says what is right, or where it was not scored.
    """

    run: str
    format: str
    case: str
    prompt: Pieces
    answer: str
    finish: Finish
    scores: Mapping[str, float | None]
    marks: tuple[Highlight, ...]
    stop: str = ""
    kind: SampleKind = "answer"
    expected: str = ""
    right: bool | None = None
    options: tuple[ShownOption, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseRow:
    """How a case came out in every format: a text for each run, with a letter for each format.

    The formats are in the order of the report's ``formats``. ``r``: right, ``w``: wrong, ``e``: an
    empty answer, ``n``: one that never stopped, ``l``: one that leaks control text, ``-``: not
    scored.
    """

    case: str
    kind: SampleKind
    question: str
    outcomes: tuple[str, ...]
