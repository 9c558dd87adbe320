"""Which scripts a language is written in, and which letters of a text are of another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import regex

from harness.errors import HarnessError

_SCRIPTS: dict[str, tuple[str, ...]] = {
    "zh": ("Han", "Bopomofo"),
    "ja": ("Han", "Hiragana", "Katakana"),
    "ko": ("Hangul", "Han"),
    **dict.fromkeys(("ru", "uk", "bg", "be", "mk", "ky", "tg", "mn", "kk"), ("Cyrillic",)),
    **dict.fromkeys(("sr", "bs", "uz"), ("Cyrillic", "Latin")),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "ug"), ("Arabic",)),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), ("Devanagari",)),
    **dict.fromkeys(("he", "yi"), ("Hebrew",)),
    "el": ("Greek",),
    "th": ("Thai",),
    "lo": ("Lao",),
    "km": ("Khmer",),
    "my": ("Myanmar",),
    "bn": ("Bengali",),
    "ta": ("Tamil",),
    "te": ("Telugu",),
    "kn": ("Kannada",),
    "ml": ("Malayalam",),
    "gu": ("Gujarati",),
    "pa": ("Gurmukhi",),
    "si": ("Sinhala",),
    "ka": ("Georgian",),
    "hy": ("Armenian",),
    "am": ("Ethiopic",),
    "bo": ("Tibetan",),
}
UNSPACED_SCRIPTS = frozenset(
    ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
)
"""Scripts that write no spaces between words."""

_LATIN = ("Latin",)
SCRIPTS = sorted({script for scripts in _SCRIPTS.values() for script in scripts} | {"Latin"})
_ONE_LANGUAGE = {
    scripts[0]: language
    for language, scripts in _SCRIPTS.items()
    if sum(other[0] == scripts[0] for other in _SCRIPTS.values()) == 1
} | {
    "Han": "zh",
    "Hiragana": "ja",
    "Katakana": "ja",
}
_BY_LETTER = frozenset(("Han", "Hangul"))
_CLAUSE_WORDS = 4
_SHORT_CLAUSE_WORDS = 3
_SENTENCE_WORDS = """i you he she we they it is are was were be been have has had do does did will
    would can could should must not this that what why how if so but because my your his her our
    their me him us them"""
_OF_A_SENTENCE = frozenset(_SENTENCE_WORDS.split())


_CODE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")


def expected_languages(expect: str | Iterable[str]) -> tuple[str, ...]:
    """Codes from a list of them or a text such as ``en,ru``.

    Raises ValueError for no code at all, and for a word that cannot be one.
    """
    parts = (expect,) if isinstance(expect, str) else expect
    codes = tuple(code.strip() for part in parts for code in part.split(",") if code.strip())
    if not codes:
        raise ValueError("no expected language is given")
    for code in codes:
        if not _CODE.fullmatch(code):
            raise ValueError(f"invalid language {code!r}: expected a code such as en or zh-Hant")
    return codes


def given_languages(expect: str | Iterable[str]) -> tuple[str, ...]:
    """The same of a user's option. Raises HarnessError."""
    try:
        return expected_languages(expect)
    except ValueError as error:
        raise HarnessError(str(error), hint="for example en,de") from None


def primary(code: str) -> str:
    """The language of a tag: ``zh-Hant`` and ``ZH_tw`` are zh, nb and nn are no."""
    language = re.split(r"[-_]", code.strip().lower())[0]
    return {"nb": "no", "nn": "no", "iw": "he", "in": "id", "fil": "tl"}.get(language, language)


def scripts_of(languages: Iterable[str]) -> frozenset[str]:
    """The scripts that these languages are written in; Latin for those not listed."""
    return frozenset(script for language in languages for script in _SCRIPTS.get(language, _LATIN))


def name_of(script: str) -> str:
    """The language that a script gives away (zh for Han, ko for Hangul), or the script where
    several share it.
    """
    return _ONE_LANGUAGE.get(script, script)


@lru_cache(maxsize=64)
def _runs_outside(allowed: frozenset[str]) -> regex.Pattern[str]:
    parts = [
        rf"(?P<{script}>[\p{{L}}&&\p{{Script={script}}}]+)"
        for script in SCRIPTS
        if script not in allowed
    ]
    inside = "".join(rf"\p{{Script={script}}}" for script in [*SCRIPTS, "Common", "Inherited"])
    return regex.compile("|".join([*parts, rf"(?P<other>[\p{{L}}--[{inside}]]+)"]), regex.V1)


def off_script(
    text: str, allowed: frozenset[str], prompt: str = ""
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Offsets of the letters of other scripts than ``allowed``, and the languages they give away.

    Letters quoted from the prompt are allowed: letter by letter for Han and Hangul, by the word for
    the rest (else a prompt with one Russian sentence would allow the whole alphabet). A single
    Greek letter is a symbol. Where Latin is not allowed, single names and terms in a text of its
    own script are no drift (``使用 Python``): Latin counts in clauses, or when the text has nothing
    else.
    """
    if text.isascii() and "Latin" in allowed:
        return (), ()
    quoted = prompt.casefold()
    found: list[int] = []
    named: dict[str, None] = {}
    runs = list(_runs_outside(allowed).finditer(text))
    latin = (
        {match.start() for match in _latin_that_counts(text, runs)}
        if "Latin" not in allowed
        else set()
    )
    for match in runs:
        script = match.lastgroup or "other"
        if script == "Latin" and match.start() not in latin:
            continue
        offsets = _not_quoted(match, script, quoted)
        if offsets and not (script == "Greek" and len(match[0]) == 1):
            found += offsets
            named[name_of(script)] = None
    return tuple(found), tuple(named)


def _not_quoted(match: regex.Match[str], script: str, quoted: str) -> Iterable[int]:
    start, end = match.span()
    if not quoted:
        return range(start, end)
    if script in _BY_LETTER:
        return [start + at for at, letter in enumerate(match[0]) if letter not in quoted]
    return () if match[0].casefold() in quoted else range(start, end)


def _latin_that_counts(text: str, runs: list[regex.Match[str]]) -> Iterator[regex.Match[str]]:
    latin = [match for match in runs if match.lastgroup == "Latin"]
    if len(latin) == len(runs) and count_letters(text) == sum(len(match[0]) for match in latin):
        yield from latin
        return
    clause: list[regex.Match[str]] = []
    for match in latin:
        between = text[clause[-1].end() : match.start()] if clause else ""
        if clause and (len(between) > 3 or any(letter.isalpha() for letter in between)):
            yield from _if_clause(clause)
            clause = []
        clause.append(match)
    yield from _if_clause(clause)


def _if_clause(words: list[regex.Match[str]]) -> list[regex.Match[str]]:
    """The words if they are a clause: four words, or three of which one makes a sentence and two
    are lower case ("Visual Studio Code" and "end to end" are terms).
    """
    if len(words) >= _CLAUSE_WORDS:
        return words
    small = [match[0] for match in words if match[0].islower()]
    if (
        len(words) >= _SHORT_CLAUSE_WORDS
        and len(small) >= _SHORT_CLAUSE_WORDS - 1
        and not _OF_A_SENTENCE.isdisjoint(small)
    ):
        return words
    return []


_ASCII_OTHER = bytes(
    byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalpha()
)
_LETTERS = regex.compile(r"\p{L}+")


def count_letters(text: str) -> int:
    """How many letters (Unicode category L) a text holds."""
    if text.isascii():
        return len(text.encode().translate(None, _ASCII_OTHER))
    return sum(len(match[0]) for match in _LETTERS.finditer(text))
