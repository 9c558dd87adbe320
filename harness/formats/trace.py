"""One run of a template, with text and spans made together. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.formats.template import Marks, Traced, compile_template, marks_absent_from
from harness.records import Format, Span, SpanKind


class Shape(NamedTuple):
    """All that a rendering depends on besides the format and the words: hashable, so that it can be looked up."""

    roles: tuple[str, ...]
    names: tuple[str | None, ...]
    add_generation_prompt: bool
    bos_token: str
    eos_token: str
    assistant_name: str
    user_name: str


def trace(format: Format, shape: Shape, contents: Sequence[str], words: type[Traced] = Traced) -> tuple[str, tuple[Span, ...]]:
    """Run the format's template over messages of this shape with these contents, wrapped in ``words``.

    Raises what the template raises, and HarnessError for a template that does not compile.
    """
    names = [name for name in shape.names if name]
    marks = marks_absent_from([*contents, *names, shape.bos_token, shape.eos_token, shape.assistant_name, shape.user_name, format.template])
    pieces: list[tuple[SpanKind, int]] = [("content", index) for index in range(len(contents))] + [("bos", -1), ("eos", -1)]
    messages = []
    for index, (role, name, content) in enumerate(zip(shape.roles, shape.names, contents, strict=True)):
        entry: dict[str, str] = {"role": role, "content": words(content, index, marks)}
        if name:
            entry["name"] = name
        messages.append(entry)
    marked = compile_template(format)(
        messages=messages,
        add_generation_prompt=shape.add_generation_prompt,
        bos_token=Traced(shape.bos_token, len(contents), marks),
        eos_token=Traced(shape.eos_token, len(contents) + 1, marks),
        assistant_name=shape.assistant_name,
        user_name=shape.user_name,
        generation_mark=marks.generation,
    )
    return _unmark(marked, marks, pieces)


def _unmark(marked: str, marks: Marks, pieces: list[tuple[SpanKind, int]]) -> tuple[str, tuple[Span, ...]]:
    """Split the marked output into plain text and spans in one pass."""
    parts: list[str] = []
    spans: list[Span] = []
    length = 0
    for part, kind, message, trained in _classify(marked, marks, pieces):
        if not part:
            continue
        last = spans[-1] if spans else None
        if last and (last.kind, last.message, last.trained) == (kind, message, trained):
            spans[-1] = Span(last.start, length + len(part), kind, message, trained)
        else:
            spans.append(Span(length, length + len(part), kind, message, trained))
        parts.append(part)
        length += len(part)
    return "".join(parts), tuple(spans)


def _classify(marked: str, marks: Marks, pieces: list[tuple[SpanKind, int]]) -> Iterator[tuple[str, SpanKind, int, bool]]:
    """Yield (text, kind, message, trained) in order.

    Inside a generation block, what stands before the answer is glue (the space that belongs to the
    answer), what stands after it is its stop. Outside, text is header, and white space between
    headers is glue.
    """
    at, inside, message, answered = 0, False, -1, False
    open_piece: tuple[SpanKind, int] | None = None
    for mark in marks.pattern.finditer(marked):
        part = marked[at : mark.start()]
        at = mark.end()
        if open_piece is not None:
            kind, index = open_piece
            yield part, kind, index if kind == "content" else (message if inside else -1), inside
        elif inside:
            yield part, "stop" if answered else "glue", message, True
        else:
            yield part, "header" if part.strip() else "glue", -1, False
        if mark[1] is not None:
            open_piece = pieces[int(mark[1])]
            if open_piece[0] == "content":
                message, answered = open_piece[1], True
        elif mark[0] == marks.close:
            open_piece = None
        else:
            inside, answered = not inside, False
            if inside:
                message = _next_content(marked, at, marks, pieces)
    part = marked[at:]
    yield part, "header" if part.strip() else "glue", -1, False


def _next_content(marked: str, at: int, marks: Marks, pieces: list[tuple[SpanKind, int]]) -> int:
    """The message whose content comes first inside the generation block that begins at ``at``, or −1."""
    for mark in marks.pattern.finditer(marked, at):
        if mark[0] == marks.generation:
            break
        if mark[1] is not None and pieces[int(mark[1])][0] == "content":
            return pieces[int(mark[1])][1]
    return -1
