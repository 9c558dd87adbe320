"""Strings, objects and lists that say, when a template writes them, what they are.

A traced string compares, slices, trims and splits like the text it holds, but when it is written
(alone or joined to something) it brackets itself with Unicode noncharacters. So does an object or a
list, and so does the JSON that ``tojson`` makes of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, SupportsIndex

from harness.errors import HarnessError
from harness.records import SpanKind

_MARK_SETS = tuple(tuple(map(chr, range(0xFDD0 + i, 0xFDD4 + i))) for i in range(0, 32, 4))

Question = tuple[int, tuple[str, ...], str, tuple[str, ...], Any]
"""What a template asked of a message's words: its index, how they were stripped, method, arguments,
answer."""

Piece = tuple[SpanKind, int]
"""What a piece of traced text is, and the index of its message, or −1 for none."""


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


class Inspected(Exception):  # a signal, never shown
    """The template has read a message's content."""


class Pieces:
    """The numbered pieces of one rendering.

    ``covers`` are the numbers of the strings inside a piece that was made of several: JSON.
    ``asked`` are questions that were answered for probes (harness.formats.skeleton).
    """

    __slots__ = ("asked", "covers", "known", "marks")

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.known: list[Piece] = []
        self.covers: dict[int, list[int]] = {}
        self.asked: list[Question] = []

    def text(self, text: str, kind: SpanKind, message: int) -> Traced:
        """A new traced string."""
        self.known.append((kind, message))
        return Traced(text, len(self.known) - 1, self)

    def value(self, value: Any, kind: SpanKind, message: int) -> Any:
        """A JSON value whose strings, keys, objects and lists are traced."""
        if isinstance(value, str):
            return self.text(value, kind, message)
        if isinstance(value, Mapping):
            pairs = {
                self.text(key, kind, message): self.value(item, kind, message)
                for key, item in value.items()
            }
            return TracedObject(pairs, self, kind, message)
        if isinstance(value, list):
            return TracedList([self.value(v, kind, message) for v in value], self, kind, message)
        return value


class Traced(str):
    """Text that brackets itself when a template writes it.

    ``number`` is its index in the rendering's ``pieces``.
    """

    __slots__ = ("number", "pieces")
    number: int
    pieces: Pieces

    def __new__(cls, text: str, number: int, pieces: Pieces) -> Self:
        self = super().__new__(cls, text)
        self.number = number
        self.pieces = pieces
        return self

    def _like(self, text: str) -> Traced:
        return Traced(text, self.number, self.pieces)

    def read(self) -> str:
        """The text, for somebody who rewrites it."""
        return str.__str__(self)

    def __str__(self) -> str:
        marks = self.pieces.marks
        return f"{marks.open}{self.number}{marks.number}{str.__str__(self)}{marks.close}"

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

    def replace(self, old: str, new: str, /, count: SupportsIndex = -1) -> Traced:
        return self._like(self.read().replace(old, new, count))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return [self._like(part) for part in super().split(sep, maxsplit)]


class TracedObject(dict[Any, Any]):
    """A JSON object of traced strings. Written as it is, it is one traced piece."""

    def __init__(
        self, pairs: Mapping[Any, Any], pieces: Pieces, kind: SpanKind, message: int
    ) -> None:
        super().__init__(pairs)
        self._origin = (pieces, kind, message)

    def __str__(self) -> str:
        return str(_rewritten(dict.__repr__(self), self))


class TracedList(list[Any]):
    """A JSON list of traced values. Written as it is, it is one traced piece."""

    def __init__(self, items: list[Any], pieces: Pieces, kind: SpanKind, message: int) -> None:
        super().__init__(items)
        self._origin = (pieces, kind, message)

    def __str__(self) -> str:
        return str(_rewritten(list.__repr__(self), self))


def replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    """The filter of that name, which leaves the brackets of a traced text alone."""
    whole = text if isinstance(text, Traced) else str(text)
    return whole.replace(str(old), str(new), -1 if count is None else count)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """The filter of that name as transformers defines it. JSON of traced values is traced."""
    text = json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    return _rewritten(text, value)


def _rewritten(text: str, value: Any) -> str:
    """Text that was made of a value: traced if the value is, as what comes first in it."""
    leaves = list(_leaves(value))
    origin = getattr(value, "_origin", None)
    if origin is None and leaves:
        first = leaves[0]
        origin = (first.pieces, *first.pieces.known[first.number])
    if origin is None:
        return text
    for leaf in leaves:
        leaf.read()  # a probe refuses: JSON may write its words with escapes
    pieces, kind, message = origin
    traced: Traced = pieces.text(text, kind, message)
    pieces.covers[traced.number] = [leaf.number for leaf in leaves]
    return traced


def _leaves(value: Any) -> Iterator[Traced]:
    if isinstance(value, Traced):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
