"""Words of a text in any script: characters where a script writes no spaces."""

from __future__ import annotations

import re
from collections.abc import Iterator

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3021-\u30ff\u3105-\u312f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Thai to Khmer, kana, Bopomofo and Han, as ranges for a character class of ``re``."""

SPACED_LETTER = rf"[^\W_{UNSPACED}]"
"""A letter or digit of a script that separates its words."""

_JOINT = r"(?:['’-]|(?<=\d)[.,](?=\d))"
_WORD = re.compile(rf"(?=[^\W_])[{UNSPACED}]|{SPACED_LETTER}+(?:{_JOINT}{SPACED_LETTER}+)*")


def words(text: str) -> list[str]:
    """The words of a text in its own case.

    ``well-known``, ``isn't`` and ``1,200.5`` are one word each, and so is every character of Han,
    kana, Thai and their like.

    White-space words would count a whole Chinese answer as one (the trap of Cohere's Language
    Confusion Benchmark).
    """
    return _WORD.findall(text)


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each of ``words(text)``."""
    return (match.span() for match in _WORD.finditer(text))
