"""Find the spans of an unchanged template by tracing the texts of messages through it.

Messages are passed as sourced text (harness.formats.provenance), so for each character it is known
whether a message or the template wrote it. An answer lies around its own characters, and two
comparisons show where it begins and ends:

- It begins where the generation prompt ends, in a rendering of the messages before it.
- It ends with the text that the template writes after it both when nothing follows and when
  something does. This includes the stop and leaves out the next header.

Runs in the limited process (harness.formats.guard_process).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from harness.formats.kept.kept_pieces import (
    FIRST_MARK,
    HEADING,
    MARK,
    THOUGHT,
    Answer,
    Fault,
    Part,
    Rendering,
    behind_own,
    behind_suffix,
    marks_only,
    opening_mark,
    same_marks,
    spans_of,
)
from harness.formats.tracing import REFUSALS
from harness.records import Span, SpanKind

#: Renders these messages, with or without generation prompt. Raises what the template raises.
Write = Callable[[Sequence[Mapping[str, Any]], bool], str]

_FOLLOWING = "Zq next question qZ"


class Untraceable(Exception):
    """The beginning or the end of an answer cannot be found."""


class Tracer:
    """One conversation in one template. Renderings of its beginnings are made when needed."""

    def __init__(
        self,
        write: Write,
        rows: Sequence[Mapping[str, Any]],
        sources: Sequence[tuple[SpanKind, int]],
        stops: Sequence[str],
        question: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self._write, self._rows, self._sources = write, rows, sources
        self._stops, self._question = stops, question
        self._made: dict[tuple[int, str], Rendering | None] = {}
        self.written: set[int] = set()
        """The sources that the whole conversation's text has something of."""

    def trace(self, prompt: bool) -> tuple[str, list[Span], list[Answer]]:
        """Text, spans and answers of the whole conversation. Raises Untraceable."""
        whole = Rendering(self._write(self._rows, prompt), self._sources)
        self.written = whole.sources
        self._made[len(self._rows), "prompt" if prompt else ""] = whole
        answers = [
            self._answer(whole, index, prompt)
            for index, row in enumerate(self._rows)
            if row["role"] == "assistant"
        ]
        known = [answer for answer in answers if answer is not None]
        return whole.text, list(spans_of(whole, known)), known

    def _beginning(self, count: int, ending: str) -> Rendering | None:
        """The first messages, followed by the generation prompt, a question or nothing.

        None if the template refuses them.
        """
        key = (count, ending)
        if key not in self._made:
            rows = list(self._rows[:count])
            if ending == "question":
                rows.append(self._question(_FOLLOWING))
            try:
                written = self._write(rows, ending == "prompt")
                self._made[key] = Rendering(written, self._sources)
            except REFUSALS:
                self._made[key] = None
        return self._made[key]

    def _answer(self, whole: Rendering, index: int, prompt: bool) -> Answer | None:
        own = self._own(whole, index)
        if not own:
            return self._empty(whole, index)
        first, last = own[0].start, own[-1].end
        between = [p for p in whole.parts if first <= p.start < last and p.message != index]
        if any(part.message >= 0 for part in between):
            raise Untraceable(f"message {index} is written around another one, or twice")
        start, faults = self._start(whole, index, own)
        is_last = index == len(self._rows) - 1 and not prompt
        stop, more = self._stop(whole, index, last, is_last)
        end = last + stop
        stop_at = self._stop_at(whole, own, last, end)
        if stop_at == end and not more:
            more = ("no stop",)
        return Answer(index, start, stop_at, end, (*faults, *more))

    def _own(self, whole: Rendering, index: int) -> list[Part]:
        """The parts inside the answer itself; a later turn may repeat the name of a call."""
        own = whole.of(index)
        ended = self._beginning(index + 1, "")
        if ended is None or ended is whole:
            return own
        left = [ended.text[part.start : part.end].strip() for part in ended.of(index)]
        found = []
        for part in own:
            text = whole.text[part.start : part.end].strip()
            if text not in left:
                break
            left = left[left.index(text) + 1 :]
            found.append(part)
        if any(part.kind != "call" for part in own[len(found) :]):
            raise Untraceable(f"message {index} is written in two places")
        return found

    def _empty(self, whole: Rendering, index: int) -> Answer | None:
        """An answer without words: what comes behind the generation prompt when nothing follows.

        It ends where the text differs when something follows, and before the next turn's header.
        """
        prompt, ended = self._beginning(index, "prompt"), self._beginning(index + 1, "")
        if prompt is None or ended is None or not whole.text.startswith(prompt.text):
            return None
        at = len(prompt.text)
        tail = ended.text[at:].rstrip() if ended.text.startswith(prompt.text) else ""
        if not self._asks(index) and not self._begins_with_stop(ended, at):
            return None  # the prompt leaves out its header
        following = whole.behind(index, at)
        if not following.startswith(tail):
            tail = marks_only(tail, following, at, ended)
            tail += self._mark(whole, following[len(tail) :])
        stops = [stop for stop in self._stops if MARK.fullmatch(stop) and stop in following]
        ends = [following.find(stop) + len(stop) for stop in stops]
        tail = following[: max(len(tail), min(ends, default=0))]
        openings = self._openings
        heads = [mark.start() for mark in MARK.finditer(tail) if mark[0] in openings]
        tail = tail[: min(heads, default=len(tail))].rstrip()
        return Answer(index, at, at, at + len(tail), ("empty",)) if tail else None

    def _start(
        self, whole: Rendering, index: int, own: Sequence[Part]
    ) -> tuple[int, tuple[Fault, ...]]:
        """Where the generation prompt ends, and its faults."""
        first = own[0].start
        ahead = whole.before(index, first)
        beginning = self._beginning(index, "prompt") if index else None
        if beginning is not None and whole.text.startswith(beginning.text):
            start = len(beginning.text)
            bare = start <= first and not whole.text[start:first].strip()
            if bare or (self._asks(index) and start <= own[-1].end):
                return start, ()
        if beginning is None:
            asked = self._beginning(1, "prompt") if index else self._asked
            given = asked.tail if asked else ""
        else:
            given = beginning.tail
        faults: list[Fault] = []
        if beginning is not None and not whole.text.startswith(beginning.text):
            same = ahead.startswith(given)
            faults.append("earlier turns change" if same else "prompt differs")
        if ahead.startswith(given) and beginning is not None:
            cut = len(given)
        else:
            cut = behind_suffix(ahead, given)
            if cut == len(ahead) and own[0].kind != "content":
                cut = len(same_marks(ahead, given))  # the prompt already begins a thought
        rest = ahead[cut:]
        if rest.strip() and self._is_header(index, own, rest, given):
            if own[0].kind != "content":
                raise Untraceable(f"where message {index} begins: {rest!r} may be its header")
            faults.append("header not in the prompt")
            return first, tuple(faults)
        return first - len(rest), tuple(faults)

    def _asks(self, count: int) -> bool:
        """Whether the template writes a generation prompt behind the first messages."""
        prompt, without = self._beginning(count, "prompt"), self._beginning(count, "")
        return prompt is None or without is None or prompt.text != without.text

    def _begins_with_stop(self, ended: Rendering, at: int) -> bool:
        """Whether a known stop or EOS begins here, after white space."""
        at += len(ended.text[at:]) - len(ended.text[at:].lstrip())
        eos = any(p.kind == "eos" and p.start <= at < p.end for p in ended.parts)
        return eos or any(ended.text.startswith(stop.strip(), at) for stop in self._stops)

    @cached_property
    def _openings(self) -> set[str]:
        """The marks that open a turn and a question.

        A question's mark is in the text before it both at the beginning and after an answer. A mark
        that ends the previous turn does not count.
        """
        first, later = self._asked, self._beginning(len(self._rows), "question")
        if first is None:
            return set()
        number = len(self._rows)
        begin = first.text[: min((p.start for p in first.of(number)), default=0)]
        again = later and later.of(number)
        header = later.before(number, again[0].start) if later and again else begin
        same = next((n for n in range(len(begin)) if header.endswith(begin[n:])), len(begin))
        behind = [mark for mark in MARK.findall(first.tail) if not THOUGHT.search(mark)]
        ends = behind[0] if len(behind) > 1 and first.tail.lstrip().startswith(behind[0]) else ""
        marks = [mark for mark in MARK.findall(begin[same:]) if mark != ends]
        return {opening_mark(first), *marks[:1]} - {""}

    @cached_property
    def _asked(self) -> Rendering | None:
        """A single question with the generation prompt, for an answer in first position."""
        try:
            return Rendering(self._write([self._question(_FOLLOWING)], True), self._sources)
        except REFUSALS:
            return None

    def _is_header(self, index: int, own: Sequence[Part], rest: str, given: str) -> bool:
        """Whether text ahead of an answer that the prompt does not write is a header.

        It is where it repeats a mark of the prompt or opens a turn, or where the prompt flag writes
        nothing and the text is there ahead of plain words too.
        """
        found = MARK.findall(rest)
        if found and not {*MARK.findall(given), *self._openings}.isdisjoint(found):
            return True
        without = self._beginning(index, "") if index else None
        if without is not None and without.tail.rstrip() != given.rstrip():
            return False
        if own[0].kind == "content":
            return not THOUGHT.search(rest)
        return bool(HEADING.search(rest)) and not THOUGHT.search(rest) and not MARK.search(rest)

    def _stop(
        self, whole: Rendering, index: int, last: int, is_last: bool
    ) -> tuple[int, tuple[Fault, ...]]:
        """The length of the stop after an answer's last character, and its faults."""
        following = whole.behind(index, last)
        ended = whole if is_last else self._beginning(index + 1, "")
        after = whole
        if is_last:
            asked = self._beginning(index + 1, "question") or self._beginning(index + 1, "prompt")
            following = following if asked is None else behind_own(asked, index) or ""
            after = asked or whole
        tail = None if ended is None else behind_own(ended, index)
        if ended is None or tail is None or not tail.strip():
            return (0 if is_last else len(self._shared(whole, index, following))), ("no stop",)
        end = tail.rstrip()
        if following.startswith(end):
            end = self._without_answer(index, end, ended)
            heads = self._heads(after, following[len(end) :], end)
            end = self._without_header(whole, end)
            return (0, ("no stop",)) if heads or not end else (len(end), ())
        return self._differing(whole, index, ended, end, following)

    def _without_answer(self, index: int, end: str, ended: Rendering) -> str:
        """The stop without the header of the next answer, which some templates always write."""
        if self._rows[index + 1 : index + 2] and self._rows[index + 1]["role"] == "assistant":
            asked = None if self._asks(index + 1) else self._beginning(index + 1, "question")
            other = behind_own(asked, index) if asked else None
            if other is not None and not other.startswith(end):
                return marks_only(end, other, ended.of(index)[-1].end, ended)
        return end

    def _differing(
        self, whole: Rendering, index: int, ended: Rendering, end: str, following: str
    ) -> tuple[int, tuple[Fault, ...]]:
        """The stop if the template ends an answer differently when something follows."""
        last = ended.of(index)[-1]
        same = self._without_header(whole, marks_only(end, following, last.end, ended))
        if ended is whole:
            if not same and self._ends(ended, end[len(same) :].strip(), following):
                return len(end), ("end of text",)
            return len(same), () if same else ("no stop",)
        if last.kind == "content":
            stop = same or self._shared(whole, index, following)
            return len(stop), () if stop else ("no stop between",)
        if not same:
            raise Untraceable(f"where message {index} ends: {end!r} or {following!r}")
        stop = same + self._mark(whole, following[len(same) :])
        known = stop != same or self._eos(ended, same) or any(s in same for s in self._stops)
        return len(stop), () if known else ("no stop between",)

    def _heads(self, whole: Rendering, rest: str, end: str) -> bool:
        """Whether the text after an answer is the next message's header, not a stop."""
        if MARK.search(end) is None and not self._eos(whole, end):
            return not rest.strip() and bool(HEADING.search(end))
        asked = self._asked or whole
        first = min((p.start for p in asked.parts if p.message >= 0), default=0)
        opens = asked.text[:first].strip().endswith(end.strip())
        return not rest.strip() and opens and not self._eos(whole, end)

    def _eos(self, whole: Rendering, text: str) -> bool:
        ends = [whole.text[part.start : part.end] for part in whole.parts if part.kind == "eos"]
        return bool(ends) and ends[0] in text

    def _ends(self, ended: Rendering, extra: str, following: str) -> bool:
        """Whether this is EOS, as the tokenizer's token or as text, and not a header."""
        if any(ended.text[p.start : p.end] == extra for p in ended.parts if p.kind == "eos"):
            return True
        headers = {*MARK.findall(following), *MARK.findall(self._asked.tail if self._asked else "")}
        return MARK.fullmatch(extra) is not None and extra not in headers

    def _without_header(self, whole: Rendering, end: str) -> str:
        """The text up to the mark that opens turns, where the prompt flag is not heeded."""
        opens = opening_mark(whole)
        ahead = end.partition(opens)[0] if opens else ""
        return ahead.rstrip() if ahead.strip() else end

    def _mark(self, whole: Rendering, following: str) -> str:
        """The mark that ends an answer, if it is written only when something follows.

        It is the first mark of the following text, if it opens no turn and a header comes after it.
        """
        mark = FIRST_MARK.match(following)
        if mark is None or not following[mark.end() :].strip():
            return ""
        opens = {opening_mark(whole), *self._openings}
        return "" if mark[0].strip() in opens else mark[0]

    def _shared(self, whole: Rendering, index: int, following: str) -> str:
        """The same, if it comes whoever speaks next: the header of one role is no stop."""
        mark = self._mark(whole, following)
        for ending in ("question", "prompt"):
            other = self._beginning(index + 1, ending)
            behind = behind_own(other, index) if other else None
            if behind and not behind.startswith(mark):
                return ""
        return mark

    def _stop_at(self, whole: Rendering, own: Sequence[Part], last: int, end: int) -> int:
        """Where the stop begins: behind the marks that close a thought or a call."""
        if own[-1].kind == "content":
            return last
        starts = [part.start for part in whole.parts if part.kind == "eos" and part.start >= last]
        for stop in self._stops:
            at = whole.text.find(stop, last, end)
            if at >= 0:
                starts.append(at)
        if starts:
            return min(*starts, end)
        marks = list(MARK.finditer(whole.text, last, end))
        if marks and marks[-1].end() == end and not marks[-1][0].startswith(("</", "[/")):
            return marks[-1].start()
        return end
