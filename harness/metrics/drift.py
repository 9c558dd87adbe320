"""Language drift: has an answer slipped into a language that nobody asked for?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.metrics.language.detector import (
    LEAST_LETTERS,
    MIN_LETTERS,
    Foreign,
    LanguageDetector,
    ProfileDetector,
)
from harness.metrics.language.mentions import Stretch, blank, joined, mentioned, quoted_parts
from harness.metrics.language.profiles import can_tell, writes_latin
from harness.metrics.language.related import nothing_tells, other_form
from harness.metrics.language.scripts import (
    count_letters,
    expected_languages,
    off_script,
    primary,
    scripts_of,
)
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


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Letters that no expected language uses, and stretches of words of another language."""

    offsets: tuple[int, ...]
    named: tuple[str, ...]
    foreign: tuple[Foreign, ...]

    @property
    def counts(self) -> bool:
        return len(self.offsets) >= MIN_OFF_SCRIPT or bool(self.foreign)

    def stretches(self, text: str) -> list[Stretch]:
        """Where it is, in order, what hangs together as one."""
        letters = [Stretch(offset, offset + 1) for offset in self.offsets]
        return joined(text, [*letters, *(Stretch(part.start, part.end) for part in self.foreign)])

    def since(self, start: int) -> _Evidence:
        """All of it from a character on: what is mentioned after the text has slipped counts."""
        foreign = tuple(part for part in self.foreign if part.end > start)
        offsets = tuple(offset for offset in self.offsets if offset >= start)
        return _Evidence(offsets, self.named, foreign)

    def within(self, earlier: _Evidence) -> _Evidence:
        """Only what was found earlier as well: a text with blanks is shorter, and judged by
        lower thresholds.
        """
        foreign = tuple(
            part
            for part in self.foreign
            if any(part.start < other.end and other.start < part.end for other in earlier.foreign)
        )
        return _Evidence(self.offsets, self.named, foreign)


def drift(
    text: str,
    expect: str | Sequence[str] = ("en",),
    prompt: str = "",
    detector: LanguageDetector | None = None,
) -> Drift:
    """Judge one answer against the languages it may be in, as codes (``en``, ``zh-Hant``;
    ``en,ru`` are two).

    Two letters of an unexpected script are drift whatever the length. Otherwise a text of fewer
    than 16 letters is not scored, unless it has at least 8 and is found to be foreign. Code in
    fences, URLs, mathematics and a format's marks are left out, and so is what the prompt holds.
    Foreign words that are asked for, quoted or named (``language/mentions.py``) are no drift.
    """
    tags = expected_languages(expect)
    languages = frozenset(map(primary, tags))
    judge = detector or ProfileDetector()

    def find(part: str, tags: Sequence[str]) -> _Evidence:
        return _find(part, tags, prompt, judge)

    def speaks(part: str, more: frozenset[str]) -> bool:
        both = find(part, (*tags, *more))
        unknown = not all(writes_latin(language) for language in more)
        return len(both.offsets) < MIN_OFF_SCRIPT and (unknown or not both.foreign)

    prose = strip_marks(text)
    letters = count_letters(prose)
    if not letters:
        return Drift(None, "not scored: no letters outside code, URLs and mathematics")
    found = left = find(prose, tags)
    if found.counts:
        rest = blank(prose, quoted_parts(prose, found.stretches(prose)))
        left = find(rest, tags).within(found)
        if left.counts and (asked := mentioned(rest, prompt, left.stretches(rest), speaks)):
            left = find(blank(rest, asked), tags).within(left)
    if not left.counts:
        why = _not_scored(prose, letters, tags, languages, is_default=detector is None)
        if why and not found.counts:
            return Drift(None, f"not scored: {why}")
        return Drift(False, "", len(left.offsets) / letters, left.offsets)
    found = found.since(left.stretches(prose)[0].start)
    onset, sticky, returns = _course(prose, found.offsets, found.foreign)
    return Drift(
        drift=True,
        why=_why(found.offsets, found.named, found.foreign),
        off_script=len(found.offsets) / letters,
        off_script_chars=found.offsets,
        languages=tuple(dict.fromkeys([*found.named, *(part.language for part in found.foreign)])),
        onset_char=onset,
        sticky=sticky,
        returns=returns,
        window_drift=bool(found.foreign),
    )


def _find(prose: str, tags: Sequence[str], prompt: str, detector: LanguageDetector) -> _Evidence:
    languages = frozenset(map(primary, tags))
    offsets, named = off_script(prose, scripts_of(languages), prompt)
    others, form = other_form(prose, tags, prompt)
    if others:
        offsets, named = tuple(sorted({*offsets, *others})), (*named, form)
    if len(offsets) < MIN_OFF_SCRIPT and count_letters(prose) < LEAST_LETTERS:
        return _Evidence(offsets, named, ())
    foreign = detector.stretches(prose, languages, prompt)
    return _Evidence(offsets, named, tuple(foreign))


def _not_scored(
    prose: str, letters: int, tags: Sequence[str], languages: frozenset[str], is_default: bool
) -> str:
    """Why a text in which nothing foreign was found is not called fine; empty if it is."""
    if letters < MIN_LETTERS:
        return f"{letters} letters are too few to tell a language"
    if not is_default:
        return ""
    if unknown := sorted(language for language in languages if not can_tell(language)):
        return f"nothing tells {', '.join(unknown)} from other languages of its script"
    if near := nothing_tells(prose, tags, languages):
        return f"no word of it tells {', '.join(tags)} from {near}"
    return ""


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
        "the answer has two letters of a script that the expected language does not use, "
        "or a stretch of words in another language",
        "lower",
        label="language drift",
        binary=True,
        by_depth=True,
        tolerance=0.02,
        rank=50,
    )
)
def drifts(item: AnswerItem) -> tuple[float | None, str]:
    """Whether an answer leaves the expected language; not scored when it is too short."""
    found = drift(item.text, item.case.expect_language, item.prompt)
    return None if found.drift is None else float(found.drift), found.why
