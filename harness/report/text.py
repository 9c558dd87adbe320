"""Text of a model made safe to show: control characters by name, nothing that a page could not hold."""

from __future__ import annotations

import unicodedata

LONGEST = 2000


def visible(text: str, longest: int = LONGEST) -> str:
    """Replace what cannot be seen or encoded by its code point, and cut what is too long, saying so.

    Controls (but tab and newline), bidi and other format characters, noncharacters and lone surrogates
    become ``⟨U+202E⟩``.
    """
    cut = text[:longest]
    shown = "".join(_show(char) for char in cut)
    return shown + (f" ⟨{len(text) - longest} more characters⟩" if len(text) > longest else "")


def _show(char: str) -> str:
    if char in "\n\t" or (" " <= char <= "~"):
        return char
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Cn", "Co") and char != "\u200d":
        return f"⟨U+{ord(char):04X}⟩"
    return char
