"""Foreign words that an answer mentions rather than slips into: quoted, named, or asked for.

Only small stretches are mentions; each kind has a bound in words (two letters of a script without
spaces count as a word). A text is looked at for mentions only when something foreign was found in
it, so that these rules can take an alarm back and never raise one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import regex

from harness.metrics.language.language_names import languages_asked, languages_named, name_places
from harness.metrics.language.scripts import SCRIPTS, UNSPACED_SCRIPTS

QUOTED_WORDS = 12
"""Most words of a quotation or of words in italics."""
GLOSS_WORDS = 4
"""Most words in parentheses after a word, or in a sentence of the answer that names their
language.
"""
ASKED_WORDS = 12
"""Most words of a language that the prompt asks for, or as many as its longest sentence has."""
MOST_ASKED_WORDS = 40
"""Most words however long the sentences of the prompt are."""
ASKED_SENTENCE_WORDS = 6
"""Most words asked for that go on over the end of a sentence ("Hello! How are you?")."""
LEAST_FRAME_WORDS = 2
"""A quotation needs words of the answer's own around it: an answer all in quotation marks is none.
"""

_UNSPACED = "".join(rf"\p{{{script}}}" for script in sorted(UNSPACED_SCRIPTS))
_WORD = regex.compile(
    rf"(?P<sign>[\p{{L}}&&[{_UNSPACED}]])|[\p{{L}}--[{_UNSPACED}]][[\p{{L}}\p{{M}}'’-]--[{_UNSPACED}]]*",
    regex.V1,
)
_QUOTED = re.compile(
    r"\"[^\"\n]{1,200}\"|“[^”\n]{1,200}”|„[^“”\n]{1,200}[“”]|«[^»\n]{1,200}»|‹[^›\n]{1,200}›"
    r"|‘[^’\n]{1,200}’(?!\w)|(?<!\w)'[^'\n]{1,200}'(?!\w)|「[^」\n]{1,200}」|『[^』\n]{1,200}』"
    r"|《[^》\n]{1,200}》|\[[^\]\n]{1,200}\]|(?<![\w*])\*(?=[^\s*])[^*\n]{1,200}\*(?![\w*])"
    r"|(?<![\w_])_(?=[^\s_])[^_\n]{1,200}_(?![\w_])"
)
_PARENTHESES = re.compile(r"(?<=\w)[\"”’*_]?\s?[(（]([^()（）\n]{1,200})[)）]")
_SENTENCE = regex.compile(r"[^.!?。！？\n]+[.!?。！？]*")
_SENTENCE_END = regex.compile(r"[.!?。！？\n][\s\p{P}]*\p{L}")
_TOKEN = re.compile(r"\S+")
_FACE_SIGN = regex.compile(r"[\p{S}\p{Lm}\p{M}_*;•・･ᴥ\\]")
_NOT_A_FACE = regex.compile("|".join(rf"\p{{Script={script}}}{{2}}" for script in SCRIPTS))
_MIN_FACE_SIGNS = 2

_NAME = (
    r"(?:\p{Lu}[\p{L}\p{M}.'’-]*(?:\s(?:(?:de|da|di|van|von|bin|al)\s)?\p{Lu}[\p{L}\p{M}.'’-]*){0,3}"
    r"|\p{Lo}{2,5}(?:\s\p{Lo}{1,5})?)"
)
_NAME_LIST = regex.compile(rf"{_NAME}(?:,\s*(?:and\s+|&\s*)?{_NAME}|\s+(?:and|&)\s+{_NAME})+")
_MIN_NAMES = 3

Speaks = Callable[[str, frozenset[str]], bool]
"""Whether a text is of none but these languages and the expected ones."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters ``[start, end)`` of a text."""

    start: int
    end: int


def blank(text: str, parts: Iterable[Stretch]) -> str:
    """The text with these parts replaced by as many spaces, so that offsets stay."""
    kept, at = [], 0
    for part in sorted(parts, key=lambda part: part.start):
        start, end = max(at, part.start), max(at, part.end)
        kept += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*kept, text[at:]])


def count_words(text: str) -> float:
    """Words of scripts with spaces, and half the letters of scripts without."""
    signs = words = 0
    for match in _WORD.finditer(text):
        signs += match["sign"] is not None
        words += match["sign"] is None
    return words + signs / 2


def quoted_parts(text: str, foreign: Sequence[Stretch]) -> list[Stretch]:
    """Short quotations, italics, parentheses after a word, names of languages, lists of names, and
    faces drawn with letters, of those that hold something foreign.

    The foreign stretches are given in order.
    """
    ends = [part.end for part in foreign]

    def holds_foreign(part: Stretch) -> bool:
        at = bisect_right(ends, part.start)
        return at < len(ends) and foreign[at].start < part.end

    marked = [(Stretch(*match.span()), QUOTED_WORDS) for match in _QUOTED.finditer(text)]
    marked += [(Stretch(*match.span(1)), GLOSS_WORDS) for match in _PARENTHESES.finditer(text)]
    short = [
        part
        for part, most in marked
        if holds_foreign(part) and count_words(text[part.start : part.end]) <= most
    ]
    names = (Stretch(*span) for span in name_places(text))
    other = [part for part in (*_faces(text), *_listed_names(text), *names) if holds_foreign(part)]
    if count_words(blank(text, [*short, *other])) < LEAST_FRAME_WORDS:
        return other
    return [*short, *other]


def _listed_names(text: str) -> Iterator[Stretch]:
    """Lists of names of which most are in Latin letters: "José Álvarez, 王小明, Дмитрий Иванов"."""
    if text.isascii():
        return
    for match in _NAME_LIST.finditer(text):
        names = regex.split(r",\s*(?:and\s+|&\s*)?|\s+(?:and|&)\s+", match[0])
        latin = sum(bool(regex.match(r"\p{Latin}", name)) for name in names)
        if len(names) >= _MIN_NAMES and latin * 2 >= len(names):
            yield Stretch(*match.span())


def _faces(text: str) -> Iterator[Stretch]:
    """Tokens such as (´・ω・`): two or more signs, and no two letters of a script side by side."""
    for match in _TOKEN.finditer(text):
        token = match[0]
        signs = len(_FACE_SIGN.findall(token)) + ("_" in token)
        if not token.isascii() and signs >= _MIN_FACE_SIGNS and not _NOT_A_FACE.search(token):
            yield Stretch(*match.span())


def mentioned(text: str, prompt: str, foreign: Sequence[Stretch], speaks: Speaks) -> list[Stretch]:
    """Those of the foreign stretches that the prompt asks for, or whose language their sentence
    names.

    All stretches together may be no longer than one that is asked for, or than the rest of the
    text: an answer that goes on in the language is not asked for.
    """
    asked = languages_asked(prompt)
    most = _most_asked(prompt) if asked else 0
    words = sum(count_words(text[part.start : part.end]) for part in foreign)
    if words > max(most, count_words(text) - words):
        return []
    sentences = [match.span() for match in _SENTENCE.finditer(text)]
    starts = [start for start, _ in sentences]

    @cache
    def named_in(sentence: int) -> frozenset[str]:
        return languages_named(text[slice(*sentences[sentence])])

    found = []
    for part in foreign:
        letters = text[part.start : part.end]
        size = count_words(letters)
        asked_for = size <= most and (
            size <= ASKED_SENTENCE_WORDS or not _SENTENCE_END.search(letters)
        )
        if asked_for and speaks(letters, asked):
            found.append(part)
        elif size <= GLOSS_WORDS:
            named = named_in(max(0, bisect_right(starts, part.start) - 1))
            if named and speaks(letters, named):
                found.append(part)
    return found


def _most_asked(prompt: str) -> float:
    longest = max((count_words(match[0]) for match in _SENTENCE.finditer(prompt)), default=0)
    return min(MOST_ASKED_WORDS, max(ASKED_WORDS, longest))


def joined(text: str, foreign: Iterable[Stretch]) -> list[Stretch]:
    """Stretches in order, those without a letter between them as one."""
    found: list[Stretch] = []
    for part in sorted(foreign, key=lambda part: part.start):
        last = found[-1] if found else None
        if last and not _WORD.search(text, last.end, part.start):
            found[-1] = Stretch(last.start, max(last.end, part.end))
        else:
            found.append(part)
    return found
