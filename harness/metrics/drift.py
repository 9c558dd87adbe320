"""Language drift: has an answer slipped into a language that nobody asked for?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.metrics.language.detector import (
    MIN_LETTERS,
    Foreign,
    LanguageDetector,
    ProfileDetector,
)
from harness.metrics.language.profiles import can_tell
from harness.metrics.language.scripts import count_letters, off_script, primary, scripts_of
from harness.metrics.registry import AnswerItem, Metric, scorer

MIN_OFF_SCRIPT = 2

_NOT_PROSE = (
    ("```", re.compile(r"```.*?(?:```|\Z)", re.DOTALL)),
    ("~~~", re.compile(r"~~~.*?(?:~~~|\Z)", re.DOTALL)),
    ("`", re.compile(r"`[^`\n]{1,200}`")),
    (
        "://",
        re.compile(r"\b[a-z][a-z0-9+.-]{1,12}://(?:[\x21-\x7e]+|(?<=[/=_.-])\w+)+", re.IGNORECASE),
    ),
    ("www.", re.compile(r"\bwww\.[\x21-\x7e]+", re.IGNORECASE)),
    ("@", re.compile(r"[\w.+-]{1,64}@[\w.-]{1,255}")),
    ("$$", re.compile(r"\$\$.{1,2000}?\$\$", re.DOTALL)),
    ("$", re.compile(r"\$(?=[^\s$])[^$\n]{1,200}(?<=[^\s])\$(?!\d)")),
    ("\\(", re.compile(r"\\\((?:[^\\]|\\(?![()])){1,1000}?\\\)")),
    ("\\[", re.compile(r"\\\[(?:[^\\]|\\(?![\[\]])){1,2000}?\\\]")),
    ("<", re.compile(r"</?[|｜]?[A-Za-z_][^<>\n]{0,80}>")),
    ("[", re.compile(r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]")),
)


@dataclass(frozen=True, slots=True)
class Drift:
    """One answer's drift.

    ``drift`` is None when there is too little text to say, with the reason in ``why``.

    ``off_script`` is the share of letters in an unexpected script and ``off_script_chars`` where
    they are; ``onset_char`` is where the drift begins, ``sticky`` the share of letters after it
    that are off the expected languages, ``returns`` whether the text comes back (16 letters or more
    after the last of them).
    """

    drift: bool | None
    why: str
    off_script: float = 0.0
    off_script_chars: tuple[int, ...] = ()
    languages: tuple[str, ...] = ()
    onset_char: int | None = None
    sticky: float | None = None
    returns: bool | None = None
    window_drift: bool = False


def drift(
    text: str,
    expect: Sequence[str] = ("en",),
    prompt: str = "",
    detector: LanguageDetector | None = None,
) -> Drift:
    """Judge one answer against the languages it may be in, as codes (``en``, ``zh-Hant``).

    Two letters of an unexpected script are drift whatever the length; otherwise fewer than 16
    letters are not scored. Code in fences, URLs, mathematics and a format's marks are left out, and
    so is what the prompt holds.
    """
    languages = frozenset(map(primary, expect))
    if not languages:
        raise ValueError("no expected language")
    prose = strip_marks(text)
    letters = count_letters(prose)
    if not letters:
        return Drift(None, "not scored: no letters outside code, URLs and mathematics")
    offsets, named = off_script(prose, scripts_of(languages), prompt)
    if len(offsets) < MIN_OFF_SCRIPT and letters < MIN_LETTERS:
        return Drift(None, f"not scored: {letters} letters are too few to tell a language")
    foreign = (detector or ProfileDetector()).stretches(prose, languages, prompt)
    if len(offsets) < MIN_OFF_SCRIPT and not foreign:
        if detector is None and (
            unknown := sorted(language for language in languages if not can_tell(language))
        ):
            return Drift(
                None,
                (
                    f"not scored: nothing tells {', '.join(unknown)} from other languages of"
                    " its script"
                ),
            )
        return Drift(False, "", len(offsets) / letters, offsets)
    onset, sticky, returns = _course(prose, offsets, foreign)
    return Drift(
        drift=True,
        why=_why(offsets, named, foreign),
        off_script=len(offsets) / letters,
        off_script_chars=offsets,
        languages=tuple(dict.fromkeys([*named, *(part.language for part in foreign)])),
        onset_char=onset,
        sticky=sticky,
        returns=returns,
        window_drift=bool(foreign),
    )


def strip_marks(text: str) -> str:
    """The text with code, URLs, mathematics and format marks blanked by as many spaces, so that
    offsets stay.
    """
    for sign, pattern in _NOT_PROSE:
        if sign in text:
            text = pattern.sub(lambda match: " " * len(match[0]), text)
    return text


def _why(offsets: Sequence[int], named: Sequence[str], foreign: Sequence[Foreign]) -> str:
    parts = []
    if offsets:
        parts.append(f"{len(offsets)} letters of {', '.join(named)}")
    if foreign:
        parts.append(
            f"{', '.join(dict.fromkeys(part.language for part in foreign))} from character"
            f" {foreign[0].start}"
        )
    return "; ".join(parts)


def _course(
    text: str, offsets: Sequence[int], foreign: Sequence[Foreign]
) -> tuple[int, float, bool]:
    """Onset, share of off-language letters after it, and whether the text returns."""
    starts = [part.start for part in foreign[:1]] + list(offsets[:1])
    ends = [part.end for part in foreign[-1:]] + [offset + 1 for offset in offsets[-1:]]
    onset, end = min(starts), max(ends)
    after = count_letters(text[onset:])
    off = sum(count_letters(text[part.start : part.end]) for part in foreign) + _outside(
        offsets, foreign
    )
    return onset, min(1.0, off / after), count_letters(text[end:]) >= MIN_LETTERS


def _outside(offsets: Sequence[int], foreign: Sequence[Foreign]) -> int:
    """How many of the sorted offsets lie in no foreign stretch."""
    from bisect import bisect_left

    return len(offsets) - sum(
        bisect_left(offsets, part.end) - bisect_left(offsets, part.start) for part in foreign
    )


@scorer(
    Metric(
        "drift",
        "answer",
        "two letters of a script that the expected language does not use,"
        " or a stretch of words in another language",
        "lower",
        label="language drift",
        binary=True,
        by_depth=True,
        margin=0.03,
        rank=50,
    )
)
def drifts(item: AnswerItem) -> tuple[float | None, str]:
    """Whether an answer leaves the expected language; not scored when it is too short."""
    found = drift(item.text, (item.case.expect_language,), item.prompt)
    return None if found.drift is None else float(found.drift), found.why
