"""Text that remembers which message each of its characters came from.

A template from elsewhere may cut, join, trim, split and quote what it is given. ``Sourced`` text
takes part in all of that as the plain text that it is, so the template writes what it always
writes, and the result still says of each character where it came from. Where an operation is not
known here the text is right and the source is lost: it is then missing, never wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, SupportsIndex

from markupsafe import Markup

#: The source of text that the template itself writes.
LITERAL = -1

Runs = tuple[tuple[int, int], ...]


class Sourced(str):
    """A text with ``runs``: (length, source) of each of its parts, in order."""

    __slots__ = ("runs",)
    runs: Runs

    def __new__(cls, text: str, runs: Runs) -> Sourced:
        self = super().__new__(cls, text)
        self.runs = runs
        return self

    @classmethod
    def of(cls, text: str, source: int) -> Sourced:
        """A text whose characters all come from one source."""
        return cls(text, ((len(text), source),) if text else ())

    @property
    def plain(self) -> str:
        """The text alone."""
        return str.__str__(self)

    @property
    def _only(self) -> int:
        """The source of all characters, or LITERAL where there are several."""
        return self.runs[0][1] if len(self.runs) == 1 else LITERAL

    def _alike(self, text: str) -> Sourced:
        """The text after a change of letters, some of which may become two."""
        return Sourced(text, self.runs) if len(text) == len(self) else Sourced.of(text, self._only)

    def _part(self, start: int, end: int) -> Sourced:
        return Sourced(self.plain[start:end], _cut(self.runs, start, end))

    def _located(self, parts: Iterable[str]) -> list[Sourced]:
        """Parts that lie in this text one behind the other."""
        found, at = [], 0
        for part in parts:
            at = self.plain.index(part, at)
            found.append(self._part(at, at + len(part)))
            at += len(part)
        return found

    def __str__(self) -> str:
        return self

    def __format__(self, spec: str) -> str:
        return self if not spec else format(self.plain, spec)

    def __add__(self, other: str) -> str:
        if not isinstance(other, str):
            raise TypeError(f'can only concatenate str (not "{type(other).__name__}") to str')
        return join((self, other))

    def __radd__(self, other: str) -> str:
        return join((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> str:
        return Sourced(self.plain * times, self.runs * int(times))

    __rmul__ = __mul__

    def __getitem__(self, key: SupportsIndex | slice) -> Sourced:
        if isinstance(key, slice):
            start, end, step = key.indices(len(self))
            if step == 1:
                return self._part(start, max(start, end))
            whole = join([self._part(at, at + 1) for at in range(start, end, step)])
            return Sourced(whole, runs_of(whole))
        at = range(len(self))[key]
        return self._part(at, at + 1)

    def __iter__(self) -> Iterator[Sourced]:
        return (self._part(at, at + 1) for at in range(len(self)))

    def lstrip(self, chars: str | None = None) -> Sourced:
        return self._part(len(self) - len(self.plain.lstrip(chars)), len(self))

    def rstrip(self, chars: str | None = None) -> Sourced:
        return self._part(0, len(self.plain.rstrip(chars)))

    def strip(self, chars: str | None = None) -> Sourced:
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> Sourced:
        return self._part(len(self) - len(self.plain.removeprefix(prefix)), len(self))

    def removesuffix(self, suffix: str, /) -> Sourced:
        return self._part(0, len(self.plain.removesuffix(suffix)))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(self.plain.split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(self.plain.rsplit(sep, maxsplit), sep)

    def _pieces(self, parts: list[str], sep: str | None) -> list[str]:
        if sep is None:
            return [*self._located(parts)]
        found: list[str] = []
        at = 0
        for part in parts:
            found.append(self._part(at, at + len(part)))
            at += len(part) + len(sep)
        return found

    def splitlines(self, keepends: bool = False) -> list[str]:
        found, at = [], 0
        for line in self.plain.splitlines(keepends=True):
            kept = len(line) if keepends else len(line.splitlines()[0])
            found.append(self._part(at, at + kept))
            at += len(line)
        return [*found]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        one, two, three = self._located(self.plain.partition(sep))
        return one, two, three

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        one, two, three = (len(part) for part in self.plain.rpartition(sep))
        middle = one + two
        return self._part(0, one), self._part(one, middle), self._part(middle, middle + three)

    def replace(self, old: str, new: str, /, count: SupportsIndex = -1) -> str:
        return replaced(self, old, new, int(count))

    def join(self, parts: Iterable[str], /) -> str:
        return joined(self, parts)

    def lower(self) -> Sourced:
        return self._alike(self.plain.lower())

    def upper(self) -> Sourced:
        return self._alike(self.plain.upper())

    def title(self) -> Sourced:
        return self._alike(self.plain.title())

    def capitalize(self) -> Sourced:
        return self._alike(self.plain.capitalize())


def _cut(runs: Runs, start: int, end: int) -> Runs:
    found, at = [], 0
    for length, source in runs:
        kept = min(end, at + length) - max(start, at)
        if kept > 0:
            found.append((kept, source))
        at += length
    return tuple(found)


def runs_of(text: str) -> Runs:
    """The runs of any text; the template wrote what has none."""
    if isinstance(text, Sourced):
        return text.runs
    return ((len(text), LITERAL),) if text else ()


def join(parts: Iterable[str]) -> str:
    """The parts one behind the other: plain text where all are."""
    parts = list(parts)
    text = "".join(parts)
    if Sourced not in map(type, parts):
        return text
    runs: list[tuple[int, int]] = []
    size, last = 0, LITERAL  # of the run that is still growing
    for part in parts:
        for length, source in runs_of(part):
            if source == last:
                size += length
                continue
            if size:
                runs.append((size, last))
            size, last = length, source
    return Sourced(text, tuple([*runs, (size, last)] if size else runs))


def joined(separator: str, parts: Iterable[str]) -> str:
    """``separator.join(parts)``."""
    between: list[str] = []
    for part in parts:
        if not isinstance(part, str):
            raise TypeError(f"sequence item: expected str instance, {type(part).__name__} found")
        between += [separator, part]
    return join(between[1:])


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    """``text.replace(old, new, count)``."""
    if not any(isinstance(part, Sourced) for part in (text, new)):
        return text.replace(old, new, count)
    plain = str.__str__(text)
    if not old:
        return Sourced.of(plain.replace(old, new, count), LITERAL)
    whole = Sourced(plain, runs_of(text))
    parts: list[str] = []
    at = 0
    while count and (found := plain.find(old, at)) >= 0:
        parts += [whole[at:found], new]
        at, count = found + len(old), count - 1
    return join([*parts, whole[at:]])


_HIDDEN = re.compile(r'"\\u0000(\d+)\\u0000"')


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """The ``tojson`` of transformers, which leaves letters alone; a quoted text keeps its source.

    Each text is replaced by its number between two NULs while the value is written, and so
    is a plain text with a NUL.
    """
    texts: list[Sourced] = []

    def hidden(part: Any) -> Any:
        if isinstance(part, Sourced) or (isinstance(part, str) and "\0" in part):
            texts.append(Sourced(str.__str__(part), runs_of(part)))
            return f"\0{len(texts) - 1}\0"
        if isinstance(part, dict):
            return {(key if sort_keys else hidden(key)): hidden(one) for key, one in part.items()}
        return [hidden(one) for one in part] if isinstance(part, list | tuple) else part

    written = json.dumps(
        hidden(value),
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    if not texts:
        return written
    parts = _HIDDEN.split(written)
    parts[1::2] = [_quoted(texts[int(number)], ensure_ascii) for number in parts[1::2]]
    return join(parts)


def _quoted(text: Sourced, ensure_ascii: bool) -> str:
    parts: list[str] = []
    at = 0
    for length, source in text.runs:
        quoted = json.dumps(text.plain[at : at + length], ensure_ascii=ensure_ascii)
        parts.append(Sourced.of(quoted[1:-1], source))
        at += length
    quote = Sourced.of('"', text._only)
    return join([quote, *parts, quote])


class SourcedMarkup(Markup):
    """What the filter ``safe`` makes of a sourced text: joined to others it escapes them."""

    __slots__ = ("sourced",)
    sourced: Sourced

    def __new__(cls, text: str) -> SourcedMarkup:
        self = super().__new__(cls, str.__str__(text))
        self.sourced = text if isinstance(text, Sourced) else Sourced.of(text, LITERAL)
        return self

    def __str__(self) -> str:
        return self.sourced


def safe(value: Any) -> Any:
    """The filter ``safe``."""
    return SourcedMarkup(value) if isinstance(value, Sourced) else Markup(value)  # noqa: S704  # as jinja2's
