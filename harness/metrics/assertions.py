"""What a text asserts, and which of several options it settles for.

Rules for English, kept few: a negation reaches to the end of its clause.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from harness.metrics.normalise import composed
from harness.metrics.words import SPACED_LETTER

Option = str | Sequence[str]
"""A text, or several spellings of one thing."""

_REACH = 160
"""Characters of a clause that are looked at on each side: a bound on the work."""

_SUBJECT = r"(?:it|they|he|she|that|this|there|i|you|we|is|are|was|instead)\b"
_BOUNDARY = re.compile(
    r"[!?;:,()\n—–…]|\.(?!\d)|\s-+\s"
    r"|\b(?:however|although|though|because|since|so|while|whereas)\b"
    rf"|(?<!anything )(?<!nothing )\bbut\b|\band(?=\s+{_SUBJECT})",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"\bnot (?:only|just|merely|simply)\b|\bno (?:doubt|wonder|matter|problem)\b"
    r"|\b(?:(?:do|must|should|please) not|(?:do|must|should)n't|never|not to)"
    r" (?:forget|worry|hesitate)\b"
    r"|\bwithout (?:a )?doubt\b|\bno(?:thing|ne)? (?:other|else|less) than\b|\bnothing but\b"
    rf"|\bno(?=\s+(?:the|an?|or|and|yes)\b|\s+{_SUBJECT})",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|none|nobody|nothing|no-one|cannot|dont|doesnt|didnt|isnt"
    r"|wasnt|arent|unlike|lacks?|lacked|lacking)\b|n't\b"
    r"|\b(?:rather|other|less|more|\w+er) than\b|\binstead of\b|\bfar from\b|\banything but\b"
    r"|\b(?:false|wrong|incorrect|untrue|myth|mistake|mistaken|impossible) (?:that|to|for)\b"
    r"|\b(?:deny|denies|denied|doubt|doubts)\b|\bfail(?:s|ed)? to\b",
    re.IGNORECASE,
)
_MORE = re.compile(r"\s*(?:or|nor)\b", re.IGNORECASE)
QUALITY = r"(?:not(?! (?:only|just|merely|simply)\b)|never|wrong|incorrect|false|untrue)\b"
"""What follows ``is`` where a text denies its subject, as a regular expression."""
_REFUTED = re.compile(
    rf"[\"'*_)\]\s]*(?:(?:is|was|are|were|would be)\s+(?:\w+ly\s+)?{QUALITY}"
    rf"|(?:is|was|are|were)n't\b)|'s\s+{QUALITY}",
    re.IGNORECASE,
)


def plain(text: str) -> str:
    """Composed letters and straight apostrophes, so that two spellings of one word are one."""
    return composed(text).replace("’", "'")


def spellings(option: Option) -> Sequence[str]:
    """The texts of an option."""
    return (option,) if isinstance(option, str) else option


def pattern(needles: Iterable[str]) -> re.Pattern[str]:
    """A pattern for one of the texts at word boundaries, the longest first.

    No boundary is asked of an edge that is no letter (``C++``) or whose script writes no spaces;
    Korean particles follow their word without one, so Hangul needs none either. A single letter is
    not the one of ``can't``.
    """
    return _pattern(tuple(needles))


@lru_cache(maxsize=4096)
def _pattern(needles: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(map(plain, needles), key=len, reverse=True)
    return re.compile("|".join(map(_bounded, longest_first)), re.IGNORECASE)


_EDGE = SPACED_LETTER.replace(r"\W_", r"\W")
_EDGE_THERE = rf"(?:(?![\uac00-\ud7af]){SPACED_LETTER}|_)"


def _bounded(needle: str) -> str:
    parts = needle.split()
    if re.fullmatch("[A-Za-z]", needle):
        return rf"(?<![\w']){re.escape(needle)}(?![\w'])"
    before = f"(?<!{_EDGE})" if parts and re.match(_EDGE_THERE, parts[0]) else ""
    after = f"(?!{_EDGE})" if parts and re.match(_EDGE_THERE, parts[-1][-1]) else ""
    return before + r"\s+".join(map(re.escape, parts)) + after


def asserted(text: str, start: int, end: int) -> bool:
    """Whether ``text[start:end]`` is no part of a negated clause.

    ``It is not X``, ``rather than X`` and ``X is wrong`` negate X; ``No, it is X`` and ``not only
    X`` do not. The text is ``plain``.
    """
    return not (negated(text, start) or _REFUTED.match(clause_after(text, end)))


def negated(text: str, start: int) -> bool:
    """Whether a negation comes before ``start`` in its clause."""
    return _NEGATION.search(clause_before(text, start)) is not None


def clause_before(text: str, start: int) -> str:
    """The part of the clause that comes before ``start``; ``or`` goes on with a negated list."""
    window = text[max(0, start - _REACH) : start]
    ends = [match.end() for match in _BOUNDARY.finditer(window)]
    while ends and _MORE.match(window, ends[-1]):
        ends.pop()
    return without_harmless(window[ends[-1] if ends else 0 :])


def without_harmless(text: str) -> str:
    """The text without its negations that negate nothing, such as ``no doubt`` or ``not only``."""
    return _HARMLESS.sub(" ", text)


def clause_after(text: str, end: int) -> str:
    """The part of the clause that comes after ``end``."""
    return _BOUNDARY.split(text[end : end + _REACH], maxsplit=1)[0]


def mentions(option: Option, text: str) -> Iterator[tuple[int, int]]:
    """Where a text asserts an option."""
    for match in pattern(spellings(option)).finditer(text):
        if asserted(text, *match.span()):
            yield match.span()


def says(value: Option, answer: str) -> bool:
    """Whether the answer asserts one of the texts."""
    return next(mentions(value, plain(answer)), None) is not None


def picks(options: Sequence[Option], answer: str) -> bool:
    """Whether the first of the options that the answer asserts is options[0], and it alone.

    Options in a row, joined by a comma, ``or`` or ``and``, are an enumeration and no choice.
    """
    text = plain(answer)
    found = sorted(
        (start, end, index)
        for index, option in enumerate(options)
        for start, end in mentions(option, text)
    )
    if not found or found[0][2] != 0:
        return False
    other = next((at for at, (_, _, index) in enumerate(found) if index), None)
    return other is None or not _JOINED.fullmatch(text, found[other - 1][1], found[other][0])


_JOINED = re.compile(
    r"[^\w.!?]*|[^\w.!?]*(?:[\w-]+[^\w.!?,/&]*)?(?:[,/&][^\w.!?]*(?:(?:or|and)\b[^\w.!?]*)?"
    r"|\b(?:or|and)\b[^\w.!?]*)(?:(?:an?|the|on|in|at)\b[^\w.!?]*)*",
    re.IGNORECASE,
)


def in_order(options: Sequence[Option], answer: str) -> bool:
    """Whether the options are mentioned in this order, at the beginning or at the end.

    What comes before or after, such as the list as it was given, does not matter, unless it is a
    part of the same row. ``It is not a, b`` gives no order.
    """
    text = plain(answer)
    found = sorted(
        (*match.span(), index)
        for index, option in enumerate(options)
        for match in pattern(spellings(option)).finditer(text)
    )
    order, wanted = [index for _, _, index in found], list(range(len(options)))
    return any(
        order[at : at + len(wanted)] == wanted
        and not negated(text, found[at][0])
        and not _in_a_longer_row(text, found, at, at + len(wanted))
        for at in (0, len(order) - len(wanted))
        if at >= 0
    )


def _in_a_longer_row(
    text: str, found: Sequence[tuple[int, int, int]], first: int, last: int
) -> bool:
    """Whether the mention before ``first`` or that at ``last`` goes on with the same list."""
    before = first > 0 and _COMMAS.fullmatch(text, found[first - 1][1], found[first][0])
    after = last < len(found) and _COMMAS.fullmatch(text, found[last - 1][1], found[last][0])
    return bool(before or after)


_COMMAS = re.compile(r"[^\w.!?:→=>]*(?:\b(?:and|or|then)\b[^\w.!?:→=>]*)*", re.IGNORECASE)
