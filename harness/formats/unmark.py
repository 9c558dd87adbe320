"""Split the output of a traced rendering into plain text and spans, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from harness.formats.traced import Marks, Piece, Pieces, Question
from harness.records import Format, Span, SpanKind


class Literals(NamedTuple):
    """The format's own texts by which an untraced text inside an answer is split."""

    thought_close: str = ""
    call_opens: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()


def literals_of(chat_format: Format) -> Literals:
    """Those of a format's front matter."""
    calls = chat_format.call_marks
    opens = (calls.section_open, calls.open, calls.also_open) if calls else ()
    return Literals(chat_format.thought_marks.close, tuple(filter(None, opens)), chat_format.stops)


class TracedText(NamedTuple):
    """A rendering: its text, spans, and the traced ranges inside thoughts and calls.

    ``asked`` is what a template asked of probes.
    """

    text: str
    spans: tuple[Span, ...]
    plain: tuple[tuple[int, int], ...] = ()
    asked: tuple[Question, ...] = ()


def unmark(marked: str, pieces: Pieces, literals: Literals) -> TracedText:
    """Plain text and its spans."""
    parts: list[str] = []
    spans: list[Span] = []
    plain: list[tuple[int, int]] = []
    length = 0
    for part, kind, message, trained, traced in _classify(
        marked, pieces.marks, pieces.known, literals
    ):
        if not part:
            continue
        if traced and kind in ("reasoning", "call"):
            plain.append((length, length + len(part)))
        last = spans[-1] if spans else None
        if last and (last.kind, last.message, last.trained) == (kind, message, trained):
            spans[-1] = Span(last.start, length + len(part), kind, message, trained)
        else:
            spans.append(Span(length, length + len(part), kind, message, trained))
        parts.append(part)
        length += len(part)
    return TracedText("".join(parts), tuple(spans), tuple(plain), tuple(pieces.asked))


def written_pieces(marked: str, pieces: Pieces) -> set[int]:
    """The numbers of the pieces that a template wrote, alone or inside JSON."""
    written = {int(mark[1]) for mark in pieces.marks.pattern.finditer(marked) if mark[1]}
    return written.union(*(pieces.covers.get(number, ()) for number in written))


def _classify(
    marked: str, marks: Marks, known: list[Piece], literals: Literals
) -> Iterator[tuple[str, SpanKind, int, bool, bool]]:
    """Yield (text, kind, message, trained, traced) in order.

    Inside a generation block, untraced text belongs to what it surrounds (``_inside``).
    Outside, text is header, and white space between headers is glue.
    """
    at, inside, message = 0, False, -1
    before: SpanKind | None = None
    open_piece: Piece | None = None
    for mark in marks.pattern.finditer(marked):
        part = marked[at : mark.start()]
        at = mark.end()
        piece = known[int(mark[1])] if mark[1] is not None else None
        if open_piece is not None:
            kind, index = open_piece
            yield part, kind, message if inside and index < 0 else index, inside, True
        elif inside:
            for text, kind in _inside(part, before, piece[0] if piece else None, literals):
                yield text, kind, message, True, False
        else:
            yield part, "header" if part.strip() else "glue", -1, False, False
        if piece is not None:
            open_piece = piece
            if piece[1] >= 0:
                before = piece[0]
                message = piece[1]
        elif mark[0] == marks.close:
            open_piece = None
        else:
            inside, before = not inside, None
            if inside:
                message = _next_message(marked, at, marks, known)
    part = marked[at:]
    yield part, "header" if part.strip() else "glue", -1, False, False


def _inside(
    text: str, before: SpanKind | None, after: SpanKind | None, literals: Literals
) -> Iterator[tuple[str, SpanKind]]:
    """Untraced text of an answer, split by the kinds ``before`` and ``after`` it.

    The marks of a thought belong to the thought, those of a call to the call. Behind the answer's
    last words comes its stop, and before its first ones white space that belongs to it.
    """
    if before == "reasoning":
        end = _end_of(text, literals.thought_close)
        if end < 0 and after is None:
            end = _first(text, literals.stops)
        cut = len(text) if end < 0 else end
        yield text[:cut], "reasoning"
        text, before = text[cut:], None if after in ("content", "call", "reasoning") else "content"
    if before == "call":
        cut = (
            len(text) if after in ("content", "reasoning", "call") else _first(text, literals.stops)
        )
        cut = len(text) if cut < 0 else cut
        yield text[:cut], "call"
        yield text[cut:], "stop"
    elif after == "reasoning":
        yield text, "reasoning"
    elif after == "call":
        cut = 0 if before else max(0, _first(text, literals.call_opens))
        yield text[:cut], "glue"
        yield text[cut:], "call"
    else:
        yield text, "stop" if before else "glue"


def _end_of(text: str, mark: str) -> int:
    """Behind a mark and the white space that follows it, or −1."""
    at = text.find(mark) if mark else -1
    if at < 0:
        return -1
    rest = text[at + len(mark) :]
    return len(text) - len(rest.lstrip())


def _first(text: str, marks: tuple[str, ...]) -> int:
    """Where the first of the marks begins, or −1."""
    return min((at for at in map(text.find, marks) if at >= 0), default=-1)


def _next_message(marked: str, at: int, marks: Marks, known: list[Piece]) -> int:
    """The first message written inside the generation block that begins at ``at``, or −1."""
    for mark in marks.pattern.finditer(marked, at):
        if mark[0] == marks.generation:
            break
        if mark[1] is not None and known[int(mark[1])][1] >= 0:
            return known[int(mark[1])][1]
    return -1
