"""Run a chat template in the Hugging Face dialect, in a sandbox, and get text and spans together.

Messages, BOS and EOS are passed to the template as ``Traced`` strings. They compare, slice, trim
and split like the text they hold, but when one is written (alone or joined to something) it
brackets itself with Unicode noncharacters. ``{% generation %}`` writes a bracket of its own. One
pass over the output then yields text and spans together, so they cannot drift apart, and nothing is
ever found by searching for it. A text that contains some of the noncharacters gets others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, SupportsIndex

from jinja2 import StrictUndefined, TemplateError, UndefinedError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.errors import HarnessError
from harness.formats.guard import TemplateFaultError, trace_guarded
from harness.records import Format, Span, SpanKind

#: The date for templates that write one, so that a rendering does not change from day to day.
FROZEN_NOW = datetime(2024, 7, 26)

_MARK_SETS = tuple(tuple(map(chr, range(0xFDD0 + i, 0xFDD4 + i))) for i in range(0, 32, 4))


class Marks:
    """The four noncharacters that bracket traced text in one rendering."""

    def __init__(self, chars: Sequence[str]) -> None:
        self.open, self.number, self.close, self.generation = chars
        self.pattern = re.compile(f"{self.open}(\\d+){self.number}|{self.close}|{self.generation}")


_MARKS = tuple(map(Marks, _MARK_SETS))


def marks_absent_from(texts: Sequence[str]) -> Marks:
    """Marks that occur in none of the texts. Raises HarnessError when all 32 noncharacters do."""
    for marks, chars in zip(_MARKS, _MARK_SETS, strict=True):
        if not any(char in text for text in texts for char in chars):
            return marks
    raise HarnessError(
        "the text holds every noncharacter from U+FDD0 to U+FDEF",
        hint="remove them: no text needs them",
    )


class Traced(str):
    """Text that brackets itself when a template writes it.

    ``number`` is its index in the rendering's list of pieces.
    """

    __slots__ = ("marks", "number")
    number: int
    marks: Marks

    def __new__(cls, text: str, number: int, marks: Marks) -> Traced:
        self = super().__new__(cls, text)
        self.number = number
        self.marks = marks
        return self

    def _like(self, text: str) -> Traced:
        return Traced(text, self.number, self.marks)

    def __str__(self) -> str:
        plain = str.__str__(self)
        return f"{self.marks.open}{self.number}{self.marks.number}{plain}{self.marks.close}"

    def __format__(self, spec: str) -> str:
        return format(self.__str__(), spec)

    def __add__(self, other: str) -> str:
        return self.__str__() + str(other)

    def __radd__(self, other: str) -> str:
        return str(other) + self.__str__()

    def __mod__(self, other: Any) -> str:
        return str.__mod__(self.__str__(), other)

    def __getitem__(self, key: SupportsIndex | slice) -> Traced:
        return self._like(super().__getitem__(key))

    def strip(self, chars: str | None = None) -> Traced:
        return self._like(super().strip(chars))

    def lstrip(self, chars: str | None = None) -> Traced:
        return self._like(super().lstrip(chars))

    def rstrip(self, chars: str | None = None) -> Traced:
        return self._like(super().rstrip(chars))

    def removeprefix(self, prefix: str, /) -> Traced:
        return self._like(super().removeprefix(prefix))

    def removesuffix(self, suffix: str, /) -> Traced:
        return self._like(super().removesuffix(suffix))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return [self._like(part) for part in super().split(sep, maxsplit)]


class GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}``, as in transformers: the text inside is trained."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        mark = nodes.Output([nodes.Name("generation_mark", "load")], lineno=line)
        return [mark, *body, nodes.Output([nodes.Name("generation_mark", "load")], lineno=line)]


class TemplateRefusal(TemplateError):
    """The template itself called ``raise_exception``."""


#: What a template raises that refuses messages, or that fails on them.
REFUSALS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


def raise_exception(message: str) -> None:
    """The function of that name in every template."""
    raise TemplateRefusal(message)


@lru_cache(maxsize=1)
def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox of our templates: that of transformers, but strict on undefined names."""
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        extensions=[GenerationTag, loopcontrols],
        autoescape=False,
    )
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = FROZEN_NOW.strftime
    return env


_COMPILED: dict[str, Callable[..., str]] = {}


def compile_text(template: str) -> Callable[..., str]:
    """A template as a function of its variables, compiled in this process."""
    render = _COMPILED.get(template)
    if render is None:
        render = _COMPILED[template] = environment().from_string(template).render
    return render


class Shape(NamedTuple):
    """Everything but the format and the words that a rendering depends on: a cache key."""

    roles: tuple[str, ...]
    names: tuple[str | None, ...]
    add_generation_prompt: bool
    bos_token: str
    eos_token: str
    assistant_name: str
    user_name: str


def trace(
    chat_format: Format, shape: Shape, contents: Sequence[str], words: type[Traced] = Traced
) -> tuple[str, tuple[Span, ...]]:
    """Run the format's template over messages of this shape; ``words`` is the class of contents.

    A template that is not shipped runs in a limited process (harness.formats.guard). Raises what
    the template raises, and HarnessError for one that does harm there.
    """
    if chat_format.trusted:
        render = compile_text(chat_format.template)
        return run_traced(render, shape, contents, words, chat_format.template)
    where, probe = chat_format.path or chat_format.id, words is not Traced
    try:
        text, spans = trace_guarded(chat_format.template, shape, contents, where, probe=probe)
    except TemplateFaultError as fault:
        raise _exception(fault) from None
    return text, tuple(Span(*span) for span in spans)


def _exception(fault: TemplateFaultError) -> Exception:
    """A fault in the limited process as the exception that it was there."""
    kinds: tuple[type[Exception], ...] = (TemplateRefusal, UndefinedError, TypeError)
    kind = next((kind for kind in kinds if kind.__name__ == fault.name), TemplateError)
    named = kind is not TemplateError or fault.name == "TemplateError"
    return kind(str(fault) if named else f"{fault.name}: {fault}")


def run_traced(
    render: Callable[..., str],
    shape: Shape,
    contents: Sequence[str],
    words: type[Traced],
    template: str,
) -> tuple[str, tuple[Span, ...]]:
    """Run a compiled ``template`` over messages of this shape, in this process."""
    names = [name for name in shape.names if name]
    marks = marks_absent_from(
        [
            *contents,
            *names,
            shape.bos_token,
            shape.eos_token,
            shape.assistant_name,
            shape.user_name,
            template,
        ]
    )
    pieces: list[tuple[SpanKind, int]] = [("content", index) for index in range(len(contents))] + [
        ("bos", -1),
        ("eos", -1),
    ]
    messages = []
    for index, (role, name, content) in enumerate(
        zip(shape.roles, shape.names, contents, strict=True)
    ):
        entry: dict[str, str] = {"role": role, "content": words(content, index, marks)}
        if name:
            entry["name"] = name
        messages.append(entry)
    marked = render(
        messages=messages,
        add_generation_prompt=shape.add_generation_prompt,
        bos_token=Traced(shape.bos_token, len(contents), marks),
        eos_token=Traced(shape.eos_token, len(contents) + 1, marks),
        assistant_name=shape.assistant_name,
        user_name=shape.user_name,
        generation_mark=marks.generation,
    )
    return _unmark(marked, marks, pieces)


def _unmark(
    marked: str, marks: Marks, pieces: list[tuple[SpanKind, int]]
) -> tuple[str, tuple[Span, ...]]:
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


def _classify(
    marked: str, marks: Marks, pieces: list[tuple[SpanKind, int]]
) -> Iterator[tuple[str, SpanKind, int, bool]]:
    """Yield (text, kind, message, trained) in order.

    Inside a generation block, the text before the answer is glue (the space that belongs to the
    answer) and the text behind it is its stop. Outside, text is header, and white space between
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
    """The first message written inside the generation block that begins at ``at``, or −1."""
    for mark in marks.pattern.finditer(marked, at):
        if mark[0] == marks.generation:
            break
        if mark[1] is not None and pieces[int(mark[1])][0] == "content":
            return pieces[int(mark[1])][1]
    return -1
