"""Refuse a GGUF file whose metadata is not whole, before another package reads it."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from harness.errors import HarnessError

#: Bytes of a value by the number of its type.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
#: The types whose values begin with a length.
_TEXT, _LIST = 8, 9


def check_gguf(path: Path) -> None:
    """Raise HarnessError for a GGUF file whose metadata does not end inside the file.

    The package gguf reads beyond the end of a file without an error. Where a damaged number gives
    a list 10^18 entries, it makes them all. Versions other than 2 and 3 are left to that package.
    """
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if data[:4] == b"GGUF":
                _Walk(data).to_the_end()
    except (struct.error, ValueError, OverflowError, RecursionError):
        raise HarnessError(
            "cannot read: its metadata is cut or damaged",
            where=str(path),
            hint="copy or download it again",
        ) from None
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(path)) from None


class _Walk:
    """A position in a file that moves from value to value.

    Raises struct.error or ValueError where the next value lies outside the file.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 4
        order = "<" if struct.unpack_from("<I", data, 4)[0] & 0xFFFF else ">"
        self.short, self.long = struct.Struct(f"{order}I"), struct.Struct(f"{order}Q")

    def to_the_end(self) -> None:
        """Pass over all settings, and over the description of each tensor."""
        if self.number(self.short) not in (2, 3):
            return
        tensors, settings = self.number(self.long), self.number(self.long)
        for _ in range(settings):
            self.value(_TEXT)
            self.value(self.number(self.short))
        for _ in range(tensors):
            self.value(_TEXT)
            dimensions = self.number(self.short)
            self.at += 8 * dimensions + 12  # their sizes, then type and place
        if self.at > len(self.data):
            raise ValueError("it ends early")

    def number(self, kind: struct.Struct) -> int:
        """Read a number and move behind it."""
        found: int = kind.unpack_from(self.data, self.at)[0]
        self.at += kind.size
        return found

    def value(self, kind: int) -> None:
        """Move behind a value of this type."""
        if kind == _TEXT:
            length = self.number(self.long)
            self.at += length
        elif kind == _LIST:
            inner, entries = self.number(self.short), self.number(self.long)
            if inner in _SIZES:
                self.at += entries * _SIZES[inner]
                return
            for _ in range(entries):
                self.value(inner)
        elif kind in _SIZES:
            self.at += _SIZES[kind]
        else:
            raise ValueError("unknown type")
