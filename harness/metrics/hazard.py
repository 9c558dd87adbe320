"""How near is a model to leaving the language, before any sampled text shows it?

At each position the model gives some probability to tokens of scripts that the expected language
does not use. What is summed up over a text is the hazard of at least one such token. It rises in
steps during a training that teaches a second language by accident, while greedy answers still look
clean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.metrics.language.scripts import expected_languages, off_script, primary, scripts_of
from harness.metrics.registry import AnswerItem, Metric, ReferenceItem, scorer

LIKELY = 0.5

#: First byte of a character in UTF-8 → script, where one byte gives it away. E0, E1, EF and F0 hold
#: too many.
_LEAD = {
    **dict.fromkeys(range(0xCE, 0xD0), "Greek"),
    **dict.fromkeys(range(0xD0, 0xD4), "Cyrillic"),
    0xD5: "Armenian",
    0xD7: "Hebrew",
    **dict.fromkeys(range(0xD8, 0xDC), "Arabic"),
    0xE3: "Hiragana",
    **dict.fromkeys(range(0xE4, 0xEA), "Han"),
    **dict.fromkeys(range(0xEA, 0xEE), "Hangul"),
}
_EAST = frozenset(("Han", "Hiragana", "Katakana", "Bopomofo"))


@dataclass(frozen=True, slots=True)
class Hazard:
    """Of one path: ``value`` = 1 − Π(1 − h), the largest h, and the first token at which h reaches
    one half.
    """

    value: float
    highest: float
    first: int | None


def hazard(masses: Sequence[float]) -> Hazard | None:
    """Sum up the off-script probability at each token of a path, each 0 to 1.

    None for a path without tokens.
    """
    if not masses:
        return None
    stay = math.fsum(math.log1p(-min(mass, 1 - 1e-12)) for mass in masses)
    first = next((at for at, mass in enumerate(masses) if mass >= LIKELY), None)
    return Hazard(-math.expm1(stay), max(masses), first)


def is_off_script(piece: bytes, language: str) -> bool:
    """Whether a token belongs to a script that the language does not use, nor another of several
    (``en,ru``).

    Whole letters tell by themselves; of a character that is split over tokens the first byte tells,
    where it can. A single Greek letter is a symbol.
    """
    allowed = scripts_of(map(primary, expected_languages(language)))
    text, rest = _decoded(piece)
    if off_script(text, allowed)[0]:
        return True
    script = _LEAD.get(rest[0]) if rest else None
    if script is None or script == "Greek":
        return False
    return not (_EAST & allowed if script in _EAST else script in allowed)


def _decoded(piece: bytes) -> tuple[str, bytes]:
    """The whole characters of a token, and the bytes of one that goes on in the next.

    Bytes that end one are skipped.
    """
    start = 0
    while start < len(piece) and 0x80 <= piece[start] < 0xC0:
        start += 1
    for end in range(len(piece), max(start, len(piece) - 4) - 1, -1):
        try:
            return piece[start:end].decode("utf-8"), piece[end:]
        except UnicodeDecodeError:
            continue
    return piece.decode("utf-8", "replace"), b""


def _with_reason(masses: Sequence[float]) -> tuple[float | None, str]:
    found = hazard(masses)
    if found is None:
        return None, "no token whose alternatives were read"
    if found.first is None:
        return found.value, ""
    return found.value, f"another script is likelier than not at token {found.first}"


@scorer(
    Metric(
        "hazard",
        "answer",
        "probability of at least one token of another script along the model's own answer",
        "lower",
        label="off-script probability",
        tolerance=0.03,
        rank=51,
    )
)
def answer_hazard(item: AnswerItem) -> tuple[float | None, str]:
    """The hazard along an answer."""
    return _with_reason(item.off_script)


@scorer(
    Metric(
        "hazard_ref",
        "reference",
        "probability of at least one token of another script along a reference",
        "lower",
        label="off-script probability along references",
        tolerance=0.03,
        rank=52,
    )
)
def reference_hazard(item: ReferenceItem) -> tuple[float | None, str]:
    """The hazard along a reference."""
    return _with_reason(item.scoring.off_script)
