"""Text made comparable: NFKC, case folded, white space collapsed, with the way back to the original."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import regex

_CLUSTER = regex.compile(r"\X")
_LONGEST_CLUSTER = 32
_ACCENTS = regex.compile(rf"\p{{M}}{{{_LONGEST_CLUSTER}}}")
_SOLID = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Normalised:
    """``text``, and for each of its characters where the original characters it comes from start and end."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the original that ``text[start:end]`` comes from. Raises ValueError for an empty stretch."""
        if not 0 <= start < end <= len(self.text):
            raise ValueError(f"no stretch [{start}, {end}) in {len(self.text)} characters")
        return self.starts[start], self.ends[end - 1]


def normalised_text(text: str) -> str:
    """``normalise(text).text`` without the way back: ten times faster on ASCII."""
    return " ".join(text.lower().split()) if text.isascii() else normalise(text).text


def composed(text: str) -> str:
    """NFC: an accented letter is one character however it was typed. Runs of over 32 accents stay as they are."""
    if text.isascii() or _ACCENTS.search(text):
        return text
    return unicodedata.normalize("NFC", text)


def normalise(text: str) -> Normalised:
    """NFKC and case folding by grapheme cluster, any white space run as one space, none at the ends.

    Clusters of more than 32 code points are cut there: Python's normalisation is quadratic in a run of accents.
    """
    if text.isascii():
        return _normalise_ascii(text)
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _pieces(text):
        for letter in _folded(text[start:end]):
            blank = letter.isspace()
            if blank and (not letters or letters[-1] == " "):
                continue
            letters.append(" " if blank else letter)
            starts.append(start)
            ends.append(end)
    n = len(letters) - (letters[-1:] == [" "])
    return Normalised("".join(letters[:n]), tuple(starts[:n]), tuple(ends[:n]))


def _normalise_ascii(text: str) -> Normalised:
    starts: list[int] = []
    for match in _SOLID.finditer(text):
        if starts:
            starts.append(starts[-1] + 1)
        starts.extend(range(*match.span()))
    return Normalised(normalised_text(text), tuple(starts), tuple(start + 1 for start in starts))


def _folded(piece: str) -> str:
    if piece.isascii():
        return piece.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", piece).casefold())


def _pieces(text: str) -> list[tuple[int, int]]:
    return [
        (start, min(start + _LONGEST_CLUSTER, match.end()))
        for match in _CLUSTER.finditer(text)
        for start in range(match.start(), match.end(), _LONGEST_CLUSTER)
    ]
