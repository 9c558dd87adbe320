"""Run a template once for all conversations of one shape, and fill in the words.

Most templates write each message and never look into it, so conversations with the same roles and
names differ in their words alone. A shape is rendered once with probes in place of the words. A
probe answers a few questions, which are asked of each conversation's words again, and refuses to be
read otherwise: a template that cuts or measures a message's content is always run in full, and so
is one with a filter that may change the words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NoReturn, Self

from jinja2 import nodes

from harness.errors import HarnessError
from harness.formats.traced import Inspected, Pieces, Question, Traced
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
    "replace",
}
#: Filters that apply another one, or a test, to each item: its place among their arguments.
_APPLYING = {"map": 0, "select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}
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
    "eq",
    "equalto",
    "ne",
    "in",
}
_PROBE_TEXT = " \u2060 "
_MOST_SHAPES = 4096


class Probe(Traced):
    """Content that may be written, stripped of outer white space, and asked a few questions.

    A question (does it contain this text, begin or end with it, equal it, is it empty) is answered
    for the probe and noted: where the words of a conversation answer otherwise, the skeleton is not
    used. Anything else is refused.
    """

    __slots__ = ("strips",)
    strips: tuple[str, ...]

    def __new__(cls, text: str, number: int, pieces: Pieces, strips: tuple[str, ...] = ()) -> Self:
        self = super().__new__(cls, text, number, pieces)
        self.strips = strips
        return self

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise Inspected

    __lt__ = __le__ = __gt__ = __ge__ = __len__ = __iter__ = __getitem__ = _refuse
    __mod__ = __mul__ = __rmul__ = __int__ = __float__ = read = _refuse
    split = rsplit = splitlines = partition = rpartition = replace = find = rfind = index = (
        rindex
    ) = count = _refuse
    removeprefix = removesuffix = lower = upper = title = capitalize = casefold = swapcase = (
        join
    ) = format = encode = translate = zfill = _refuse
    isdigit = isalpha = isalnum = isspace = isupper = islower = istitle = isnumeric = isdecimal = (
        center
    ) = ljust = rjust = expandtabs = _refuse

    def _ask(self, method: str, *given: Any) -> Any:
        if not all(type(each) is str for each in given):
            raise Inspected
        answer = _answer(str.__str__(self), method, given)
        self.pieces.asked.append((self.number, self.strips, method, given, answer))
        return answer

    def __hash__(self) -> NoReturn:
        raise Inspected

    def __contains__(self, text: object) -> bool:
        return bool(self._ask("__contains__", text))

    def __eq__(self, other: object) -> bool:
        return bool(self._ask("__eq__", other))

    def __ne__(self, other: object) -> bool:
        return not self._ask("__eq__", other)

    def __bool__(self) -> bool:
        return bool(self._ask("__bool__"))

    def startswith(self, *prefix: Any) -> bool:
        return bool(self._ask("startswith", *prefix))

    def endswith(self, *suffix: Any) -> bool:
        return bool(self._ask("endswith", *suffix))

    def strip(self, chars: str | None = None) -> Probe:
        return self._stripped("strip", chars)

    def lstrip(self, chars: str | None = None) -> Probe:
        return self._stripped("lstrip", chars)

    def rstrip(self, chars: str | None = None) -> Probe:
        return self._stripped("rstrip", chars)

    def _stripped(self, how: str, chars: str | None) -> Probe:
        """Stripped of white space; or the same, if it has none of the characters to strip."""
        if chars is not None:
            if not self._ask(f"un{how}", chars):
                raise Inspected
            return self
        text = getattr(str, how)(str.__str__(self))
        return Probe(text, self.number, self.pieces, (*self.strips, how))


def _answer(text: str, method: str, given: Sequence[str]) -> Any:
    """The answer to a question of a probe. ``unstrip`` asks whether stripping changes nothing."""
    if method == "__bool__":
        return bool(text)
    if method.startswith("un"):
        return getattr(text, method[2:])(*given) == text
    return getattr(text, method)(*given)


class Skeleton:
    """The pieces of a rendered shape, in order: literal text, or a message and how to strip it."""

    def __init__(self, text: str, spans: Sequence[Span], asked: Sequence[Question]) -> None:
        self._asked = tuple(dict.fromkeys(asked))
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

        None when a slot stays empty, since then neighbouring pieces may join, and when the words
        answer a question of the template otherwise than the probe did.
        """
        for number, strips, method, given, expected in self._asked:
            words = contents[number]
            for how in strips:
                words = getattr(words, how)()
            if _answer(words, method, given) != expected:
                return None
        parts: list[str] = []
        spans: list[Span] = []
        at = 0
        for literal, strip, kind, message, trained in self._pieces:
            part = literal if strip is None else strip(contents[message])
            if not part:
                return None
            end = at + len(part)
            parts.append(part)
            # Span(…) itself takes three times as long, and this is where most renderings are made.
            spans.append(tuple.__new__(Span, (at, end, kind, message, trained)))
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
        text, spans, _, asked = trace(chat_format, shape, [_PROBE_TEXT] * len(shape.roles), Probe)
    except (Inspected, HarnessError, *REFUSALS):
        return None
    written = [span.message for span in spans if span.kind == "content"]
    return (
        Skeleton(text, spans, asked) if sorted(written) == list(range(len(shape.roles))) else None
    )


@lru_cache(maxsize=_MOST_SHAPES)
def leaves_words_alone(template: str) -> bool:
    """Whether no filter, test or macro could change or read a message unnoticed by a probe."""
    try:
        tree = environment().parse(template)
    except RecursionError:
        return False
    tests = {node.name for node in tree.find_all(nodes.Test)}
    return (
        all(map(_harmless, tree.find_all(nodes.Filter)))
        and tests <= _HARMLESS_TESTS
        and not any(tree.find_all((nodes.CallBlock, nodes.FilterBlock)))
    )


def _harmless(node: nodes.Filter) -> bool:
    """Whether a filter changes no message, or a probe notices it."""
    if node.name not in _APPLYING:
        return node.name in _HARMLESS_FILTERS
    place = _APPLYING[node.name]
    applied = node.args[place] if len(node.args) > place else None
    if applied is None:  # map(attribute=…), or a test of truth
        return not node.args or place == 1
    known = _HARMLESS_FILTERS if node.name == "map" else _HARMLESS_TESTS
    return isinstance(applied, nodes.Const) and applied.value in known
