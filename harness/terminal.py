"""Text from elsewhere on a terminal: control characters are shown, not obeyed.

Ids, answers, file names and a server's messages may hold escape sequences that move the cursor,
recolour or overwrite what was printed, or set the window's title. So the commands print through
streams that write each control character as JSON would, ``\\u001b``. Colours of our own come from
``console``, which does the same to the texts in it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with its control characters but tab and newline written as ``\\u001b``.

    So are halves of characters, which no terminal can show. The end of a line on Windows becomes a
    newline.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


class VisibleStream:
    """A text stream that passes everything on to ``raw``, texts made ``visible``."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        """Write a text. Characters that the terminal's encoding lacks are written as escapes."""
        shown = visible(text)
        try:
            self.raw.write(shown)
        except UnicodeEncodeError:
            encoding = self.raw.encoding or "ascii"
            self.raw.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


class SilentStream(VisibleStream):
    """A text stream that discards what is printed. What was asked for is written to ``raw``."""

    def write(self, text: str) -> int:
        """Discard a text."""
        return len(text)

    def isatty(self) -> bool:
        """No: a discarded line needs no colour, and a bar of progress no line."""
        return False


@contextmanager
def silent_streams() -> Iterator[None]:
    """Discard what is printed, notes and progress included: for --quiet."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, SilentStream(raw_stream(one))) for one in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


@contextmanager
def visible_streams() -> Iterator[None]:
    """Make standard output and standard error ``VisibleStream``s."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, VisibleStream(raw_stream(one))) for one in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


@contextmanager
def raw_streams() -> Iterator[None]:
    """Undo ``visible_streams`` for a library that prints nothing but our own words, in colour."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(raw_stream, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def raw_stream(stream: Any) -> TextIO:
    """The stream behind a ``VisibleStream``, or the stream itself."""
    return cast(TextIO, stream.raw if isinstance(stream, VisibleStream) else stream)


def write_exactly(text: str) -> None:
    """Write to standard output byte for byte, as UTF-8; on a terminal visibly."""
    raw = raw_stream(sys.stdout)
    if raw.isatty():
        raw.write(visible(text))
    else:
        raw.flush()
        raw.buffer.write(text.encode("utf-8", "surrogatepass"))
    raw.flush()


def console(*, stderr: bool = False, **options: Any) -> Console:
    """A console of rich for tables and colours, in which texts are made visible."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class VisibleConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text), style, control)

    options = {"highlight": False, "markup": False, **options}  # names are no markup
    stream = sys.stderr if stderr else sys.stdout
    silent = isinstance(stream, SilentStream)
    return VisibleConsole(file=raw_stream(stream), quiet=silent, **options)
