"""Dates in a text, however they are written in English."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth",
    "eighteenth", "nineteenth", "twentieth",
)  # fmt: skip
_DAYS = {
    **{word: day for day, word in enumerate(_ORDINALS, 1)},
    **{f"twenty-{word}": 20 + day for day, word in enumerate(_ORDINALS[:9], 1)},
    "thirtieth": 30,
    "thirty-first": 31,
}
_NAMES = "|".join(rf"{month[:3]}(?:{month[3:]})?\.?" for month in _MONTHS).replace(
    "Sep(?:tember)?", "Sept?(?:ember)?"
)
_DAY = rf"(?:\d{{1,2}}(?:st|nd|rd|th)?|{'|'.join(sorted(_DAYS, key=len, reverse=True))})"
_DATE = re.compile(
    rf"\b(?:(?P<iso>\d{{4}}-\d\d-\d\d)"
    rf"|(?:(?P<day>{_DAY})(?:\s+of)?\s+(?P<month>{_NAMES})"
    rf"|(?P<month2>{_NAMES})\s+(?:the\s+)?(?P<day2>{_DAY}))(?:,?\s+(?:of\s+)?(?P<year>\d{{4}}))?)"
    r"(?!\w)",
    re.IGNORECASE,
)


def date_spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Every date of a text as ``YYYY-MM-DD``, or ``MM-DD`` without a year, with its place.

    Reads ``3 May``, ``May 3rd, 2024``, ``the third of May`` and ``2024-05-03``; ``3/5`` could be
    two days and is none.
    """
    for match in _DATE.finditer(text):
        if match["iso"]:
            yield match["iso"], *match.span()
            continue
        day = (match["day"] or match["day2"]).lower()
        name = (match["month"] or match["month2"]).lower()
        month = next(at for at, full in enumerate(_MONTHS, 1) if full.lower().startswith(name[:3]))
        number = _DAYS.get(day) or int(re.sub(r"\D", "", day))
        year = f"{match['year']}-" if match["year"] else ""
        yield f"{year}{month:02}-{number:02}", *match.span()


def same_date(wanted: str, found: str) -> bool:
    """Whether two dates agree; one that is wanted of any year agrees with every year."""
    return wanted in (found, found[-len("MM-DD") :])
