"""A rendering of a kept template, taken apart: what messages brought, marks, spans."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, TypeVar

from harness.formats.provenance import LITERAL, runs_of
from harness.formats.turns import common_length
from harness.records import Span, SpanKind

#: What looks like a control mark.
MARK = re.compile(
    r"<\|[^<>|\s]{1,60}\|>|<｜[^<>｜\s]{1,60}｜>|<<?/?[^<>\s]{1,60}>>?|\[/?[A-Z_]{2,40}\]|"
    r"\|?im_(?:start|end)\|?"
)
FIRST_MARK = re.compile(r"\s*(?:" + MARK.pattern + ")")
THOUGHT = re.compile(r"think|thought|reason|analysis", re.IGNORECASE)
HEADING = re.compile(r"\w+\s*:|#{1,6}\s|\b(?:assistant|model|bot)\b", re.IGNORECASE)


class Part(NamedTuple):
    """Characters ``[start, end)`` that a message or a special token brought."""

    start: int
    end: int
    kind: SpanKind
    message: int


class Rendering:
    """A text and its parts."""

    def __init__(self, written: str, sources: Sequence[tuple[SpanKind, int]]) -> None:
        self.text = str.__str__(written)
        self.parts: list[Part] = []
        self.sources: set[int] = set()
        at = 0
        for length, source in runs_of(written):
            self.sources.add(source)
            if source != LITERAL:
                self.parts.append(Part(at, at + length, *sources[source]))
            at += length

    def of(self, message: int) -> list[Part]:
        """The parts that this message brought."""
        return [part for part in self.parts if part.message == message]

    def before(self, message: int, at: int) -> str:
        """The text between the last other message's part and ``at``."""
        ends = [p.end for p in self.parts if p.end <= at and p.message not in (-1, message)]
        return self.text[max(ends, default=0) : at]

    def behind(self, message: int, at: int) -> str:
        """The text between ``at`` and the next part of another message."""
        starts = [p.start for p in self.parts if p.start >= at and p.message not in (-1, message)]
        return self.text[at : min(starts, default=len(self.text))]

    @property
    def tail(self) -> str:
        """The text behind the last part of any message."""
        return self.text[max((p.end for p in self.parts if p.message >= 0), default=0) :]


Fault = Literal[
    "no stop",
    "no stop between",
    "end of text",
    "empty",
    "prompt differs",
    "header not in the prompt",
    "earlier turns change",
]
"""What was seen of an answer: it has no stop, or none because another turn follows; it ends with
EOS alone, or has no words; its generation prompt, header or history is not what comes before it."""


class Answer(NamedTuple):
    """What is trained of one answer: characters ``[start, end)``, the stop from ``stop`` on."""

    message: int
    start: int
    stop: int
    end: int
    faults: tuple[Fault, ...] = ()


_Piece = TypeVar("_Piece", Part, Answer)


def opening_mark(whole: Rendering) -> str:
    """The mark with which the first turn begins, or nothing. BOS is one if it begins each turn."""
    first = min((p.start for p in whole.parts if p.message >= 0), default=0)
    bos = {whole.text[p.start : p.end] for p in whole.parts if p.kind == "bos"}
    bos = {text for text in bos if whole.text.count(text) == 1}
    return next((mark for mark in MARK.findall(whole.text[:first]) if mark not in bos), "")


def behind_own(rendering: Rendering, index: int) -> str | None:
    own = rendering.of(index)
    return rendering.behind(index, own[-1].end) if own else None


def behind_suffix(ahead: str, given: str) -> int:
    """Where the longest end of ``given`` that lies in ``ahead`` ends there; else its length."""
    for at in range(len(given)):
        end = given[at:]
        if not end.strip():
            break
        place = ahead.rfind(end)
        if place >= 0 and (MARK.search(end) or len(end.strip()) > 3):
            return place + len(end)
    return len(ahead)


def same_marks(one: str, other: str) -> str:
    """What both begin with, without a mark or a word that is cut in two; nothing in common: all."""
    same = common_length(one, other)
    for text in (one, other):
        same = min([same, *(m.start() for m in MARK.finditer(text) if m.start() < same < m.end())])
    while 0 < same < len(one) and one[same - 1].isalnum() and one[same].isalnum():
        same -= 1
    return one[:same] or one


def marks_only(end: str, following: str, at: int, ended: Rendering) -> str:
    """What both begin with, up to the end of its last whole mark or EOS."""
    same = common_length(end, following)
    eos = [part.end - at for part in ended.parts if part.kind == "eos" and part.start >= at]
    if first_eos := next((place for place in eos if place <= same), 0):
        return end[:first_eos]
    cut = [m.start() for m in MARK.finditer(following) if m.start() < same < m.end()]
    marks = [m.end() for m in MARK.finditer(end) if m.end() <= min([same, *cut])]
    return end[: max(marks, default=0)]


def spans_of(whole: Rendering, answers: Sequence[Answer]) -> Iterator[Span]:
    """The text in spans, neighbours of one kind joined."""
    held: Span | None = None
    for span in _pieces(whole, answers):
        if span.start == span.end:
            continue
        if held is not None and held[2:] == span[2:]:
            held = Span(held.start, span.end, *held[2:])
            continue
        if held is not None:
            yield held
        held = span
    if held is not None:
        yield held


def _pieces(whole: Rendering, answers: Sequence[Answer]) -> Iterator[Span]:
    edges = {0, len(whole.text)}
    edges |= {edge for part in whole.parts for edge in (part.start, part.end)}
    edges |= {edge for one in answers for edge in (one.start, one.stop, one.end)}
    for start, end in pairwise(sorted(edges)):
        answer = _at(answers, start)
        part = _at(whole.parts, start)
        text = whole.text[start:end]
        if part is not None:
            message = answer.message if answer and part.message < 0 else part.message
            yield Span(start, end, part.kind, message, answer is not None)
        elif answer is None:
            yield Span(start, end, "header" if text.strip() else "glue")
        else:
            cut = _behind_thought(whole, answer, start, end)
            yield Span(start, cut, "reasoning", answer.message, True)
            yield Span(cut, end, _kind(whole, answer, start, end), answer.message, True)


def _neighbours(
    whole: Rendering, answer: Answer, start: int, end: int
) -> tuple[SpanKind | None, SpanKind | None]:
    """What of the answer itself comes before and behind these characters of it."""
    own = [part for part in whole.of(answer.message) if part.start < answer.end]
    before = next((part.kind for part in reversed(own) if part.end <= start), None)
    return before, next((part.kind for part in own if part.start >= end), None)


def _behind_thought(whole: Rendering, answer: Answer, start: int, end: int) -> int:
    """Where the mark that closes a thought ends, in text between a thought and a call."""
    before, after = _neighbours(whole, answer, start, end)
    mark = MARK.search(whole.text, start, end)
    if (before, after) != ("reasoning", "call") or mark is None:
        return start
    rest = whole.text[mark.end() : end]
    return end - len(rest.lstrip())


def _at(pieces: Sequence[_Piece], place: int) -> _Piece | None:
    return next((piece for piece in pieces if piece.start <= place < piece.end), None)


def _kind(whole: Rendering, answer: Answer, start: int, end: int) -> SpanKind:
    """The kind of text in an answer that the template wrote."""
    before, after = _neighbours(whole, answer, start, end)
    if after is None:
        if start >= answer.stop:
            return "stop"
        return before if before in ("reasoning", "call") else "stop"
    if "call" in (before, after):
        return "call"
    if "reasoning" in (before, after):
        return "reasoning"
    return "glue"
