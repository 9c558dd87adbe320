"""What a text holds: its numbers, in digits and in English words, and its first JSON object."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from harness.metrics.words import SPACED_LETTER

_TEENS = (
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
_UNITS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    *_TEENS,
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {word: value for value, word in enumerate(_UNITS)} | {
    word: 20 + 10 * at for at, word in enumerate(_TENS)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}

_DIGITS = re.compile(
    rf"(?<!{SPACED_LETTER})(?<!_)[-−+]?(?:\d[\d,]*(?:\.\d+)*"
    rf"|(?<!\.)\.\d+)(?:[eE][-+]?\d{{1,3}}(?!\w))?"
)
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_WORD = re.compile(
    rf"(?<![\w-])(minus |negative )?(?:({'|'.join(_TENS)})(?:[-"
    rf" ]({'|'.join(_UNITS[1:10])}))?|({'|'.join(_UNITS)}))"
    rf"(?: ({'|'.join(_SCALES)}))?(?![\w-])",
    re.IGNORECASE,
)
_LONGEST = 40


def number_spans(text: str) -> Iterator[tuple[float, int, int]]:
    """Every number of a text with its place: ``1,200``, ``-3``, ``2.5``, ``1e3``, ``.5`` and
    English words up to "ninety million".

    A decimal comma is not understood (``2,5`` is 2 and 5), a hyphen between two words or numbers is
    no minus, and version numbers and dates with dots give none. "one" counts as 1 even where it is
    a pronoun. The numbers of ``1,2,3`` share one place.
    """
    for match in _DIGITS.finditer(text):
        glued = match.start() > 0 and text[match.start() - 1] in ")]"
        end = match.start() + len(match[0].rstrip(","))
        for value in _values(match[0], glued):
            yield value, match.start(), end
    for match in _WORD.finditer(text):
        sign, ten, unit, small, scale = match.groups(default="")
        value = _VALUES[(ten or small).lower()] + (_VALUES[unit.lower()] if unit else 0)
        yield (-value if sign else value) * _SCALES.get(scale.lower(), 1), *match.span()


def _values(written: str, glued: bool) -> Iterator[float]:
    if len(written) > _LONGEST:
        return
    written = written.replace("−", "-").rstrip(",")
    if glued:
        written = written.lstrip("-+")
    parts = [written.replace(",", "")] if _GROUPED.fullmatch(written) else written.split(",")
    for part in parts:
        if (
            part and part.count(".") <= 1 and math.isfinite(value := float(part))
        ):  # 1e999 is no number that anyone checks
            yield value


def same_number(one: float, other: float) -> bool:
    """Whether two numbers are equal, to nine digits."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


_MOST_STARTS = 100


def first_object(text: str) -> dict[str, Any] | None:
    """The first JSON object that parses, wherever it begins; prose and code fences around it do not
    matter.

    Looks at the first 100 braces only, so that a text of braces takes no time.
    """
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(_MOST_STARTS):
        if at < 0:
            return None
        try:
            found, _end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        return found if isinstance(found, dict) else None
    return None


def has_members(wanted: Any, text: str) -> bool:
    """Whether the first JSON object of the text has the members of ``wanted`` (any object will do
    for ``True``).

    Texts are compared without case; 1 equals 1.0, but true is not 1.
    """
    found = first_object(text)
    if found is None:
        return False
    return wanted is True or all(
        key in found and _same(found[key], value) for key, value in wanted.items()
    )


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and isinstance(found, str):
        return found.strip().casefold() == wanted.strip().casefold()
    if isinstance(wanted, dict) and isinstance(found, dict):
        return found.keys() == wanted.keys() and all(
            _same(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)
