"""Run a template once for all conversations of one shape, and fill in the words.

Most templates write each message and never look into it, so conversations with the same roles and
names differ in their words alone. A shape is rendered once with probes in place of the words. A
probe refuses to be read: a template that compares, searches, cuts or measures a message's content
is detected and always run in full, and so is one with a filter that may change the words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import nodes

from harness.errors import HarnessError
from harness.formats.traced import Traced
from harness.formats.tracing import REFUSALS, Shape, environment, trace
from harness.formats.unmark import TracedText
from harness.records import Format, Span, SpanKind

#: Filters that leave a message's words unchanged, or that a probe notices.
_HARMLESS_FILTERS = {
    "trim",
    "default",
    "d",
    "string",
    "tojson",
    "items",
    "length",
    "list",
    "int",
    "float",
    "upper",
    "join",
    "dictsort",
}
#: Tests of a value's type, not of its text.
_HARMLESS_TESTS = {
    "defined",
    "undefined",
    "none",
    "string",
    "mapping",
    "sequence",
    "iterable",
    "boolean",
    "true",
    "false",
}
_PROBE_TEXT = " \u2060 "
_MOST_SHAPES = 4096


class Inspected(Exception):  # a signal, never shown
    """The template has read a message's content."""


class Probe(Traced):
    """Content that may be written and stripped of outer white space, and nothing else."""

    __slots__ = ()

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise Inspected

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __len__ = __iter__ = (
        __getitem__
    ) = __mod__ = __mul__ = __rmul__ = _refuse
    split = rsplit = splitlines = partition = rpartition = replace = startswith = endswith = (
        find
    ) = rfind = index = rindex = count = _refuse
    removeprefix = removesuffix = lower = upper = title = capitalize = casefold = swapcase = (
        join
    ) = format = encode = translate = zfill = _refuse
    isdigit = isalpha = isalnum = isspace = isupper = islower = istitle = isnumeric = isdecimal = (
        center
    ) = ljust = rjust = expandtabs = _refuse
    __hash__ = __int__ = __float__ = read = _refuse

    def _like(self, text: str) -> Probe:
        return Probe(text, self.number, self.pieces)

    def strip(self, chars: str | None = None) -> Probe:
        return self._stripped(str.strip, chars)

    def lstrip(self, chars: str | None = None) -> Probe:
        return self._stripped(str.lstrip, chars)

    def rstrip(self, chars: str | None = None) -> Probe:
        return self._stripped(str.rstrip, chars)

    def _stripped(self, how: Callable[[str], str], chars: str | None) -> Probe:
        if chars is not None:
            raise Inspected
        return self._like(how(self))


class Skeleton:
    """The pieces of a rendered shape, in order: literal text, or a message and how to strip it."""

    def __init__(self, text: str, spans: Sequence[Span]) -> None:
        self._pieces: list[tuple[str, Callable[[str], str] | None, SpanKind, int, bool]] = []
        for span in spans:
            written = text[span.start : span.end]
            self._pieces.append(
                (
                    written,
                    _strip_of(written) if span.kind == "content" else None,
                    span.kind,
                    span.message,
                    span.trained,
                )
            )

    def fill(self, contents: Sequence[str]) -> TracedText | None:
        """Text and spans with these words in the slots.

        None when a slot stays empty: then neighbouring pieces may join.
        """
        parts: list[str] = []
        spans: list[Span] = []
        at = 0
        for literal, strip, kind, message, trained in self._pieces:
            part = literal if strip is None else strip(contents[message])
            if not part:
                return None
            end = at + len(part)
            parts.append(part)
            spans.append(Span(at, end, kind, message, trained))
            at = end
        return TracedText("".join(parts), tuple(spans))


def _strip_of(written: str) -> Callable[[str], str]:
    """How the template stripped a probe, seen from the white space that is left of it."""
    left, right = written.startswith(" "), written.endswith(" ")
    if left and right:
        return str
    if left:
        return str.rstrip
    return str.lstrip if right else str.strip


@lru_cache(maxsize=_MOST_SHAPES)
def skeleton_of(chat_format: Format, shape: Shape) -> Skeleton | None:
    """The skeleton of a shape.

    None for a template that reads its messages, drops one or refuses the shape.
    """
    if not leaves_words_alone(chat_format.template):
        return None
    try:
        text, spans, _ = trace(chat_format, shape, [_PROBE_TEXT] * len(shape.roles), Probe)
    except (Inspected, HarnessError, *REFUSALS):
        return None
    written = [span.message for span in spans if span.kind == "content"]
    return Skeleton(text, spans) if sorted(written) == list(range(len(shape.roles))) else None


@lru_cache(maxsize=_MOST_SHAPES)
def leaves_words_alone(template: str) -> bool:
    """Whether no filter, test or macro could change or read a message unnoticed by a probe."""
    try:
        tree = environment().parse(template)
    except RecursionError:
        return False
    filters = {node.name for node in tree.find_all(nodes.Filter)}
    tests = {node.name for node in tree.find_all(nodes.Test)}
    return (
        filters <= _HARMLESS_FILTERS
        and tests <= _HARMLESS_TESTS
        and not any(tree.find_all((nodes.Macro, nodes.CallBlock, nodes.FilterBlock)))
    )
