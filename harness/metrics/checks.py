"""The check language of case files: what an answer must say, in which form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeVar

from harness.errors import nearest
from harness.metrics.assertions import (
    Option,
    asserted,
    in_order,
    pattern,
    picks,
    plain,
    says,
    spellings,
)
from harness.metrics.dates import date_spans, same_date
from harness.metrics.expected_calls import expected_calls
from harness.metrics.forged import ORDERS
from harness.metrics.objections import admits, objects
from harness.metrics.parsing import has_members, number_spans, same_number
from harness.metrics.roles import in_role
from harness.metrics.words import words
from harness.records import CALL_CHECKS, Check

Found = TypeVar("Found")

CONTENT_KINDS = (
    "says",
    "not_says",
    "picks",
    "order",
    "number",
    "date",
    "objects",
    "admits",
    "in_role",
    "prose",
    "contains",
    "starts_with",
    "regex",
    "equals",
    "json",
    "any",
)
"""What is answered; only these decide ``on_task``."""
FORM_KINDS = (
    "not_contains",
    "ignores",
    "max_words",
    "min_words",
    "lines",
    "uppercase",
    "lowercase",
    "language",
)
"""How it is written."""
KINDS = CONTENT_KINDS + FORM_KINDS + CALL_CHECKS

AS_A_WHOLE = ("not_says", "equals", "json", *FORM_KINDS)
"""Kinds that judge the answer with what it copies from its conversation."""

REGEX_SECONDS = 1.0
"""Time limit of one regex check: a case file must not be able to stop a run."""


def passes(check: Check, answer: str) -> bool:
    """Whether one check holds for a text as it is.

    Raises ValueError for a kind that does not exist, and for one that judges calls
    (harness.metrics.calls), which are in no text.
    """
    try:
        holds = _CHECKS[check.kind]
    except KeyError:
        raise ValueError(_unknown(check.kind)) from None
    return holds(check.value, answer)


def parse_check(mapping: Mapping[str, Any]) -> Check:
    """One check of a case file: an object of exactly one key, such as ``{"contains": "Oslo"}``.

    Raises ValueError with a plain sentence for anything else, an unknown kind, a value of the wrong
    type and a regex that does not compile.
    """
    if not isinstance(mapping, Mapping) or len(mapping) != 1:
        raise ValueError(
            f'a check is an object of one key such as {{"contains": "Oslo"}}, not {mapping!r}'
        )
    ((kind, value),) = mapping.items()
    if kind not in KINDS:
        raise ValueError(_unknown(kind))
    if kind == "any":
        return Check(kind, _alternatives(value))
    if kind == "calls":
        return Check(kind, expected_calls(value))
    wanted, fits = _VALUES[kind]
    if not fits(value):
        raise ValueError(f"the check {kind!r} takes {wanted}, not {value!r}")
    if kind == "regex":
        import regex

        try:
            re.compile(value, re.IGNORECASE | re.MULTILINE)
            regex.compile(value, regex.IGNORECASE | regex.MULTILINE)
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise ValueError(f"the regex {value!r} does not compile: {error}") from None
    return Check(kind, tuple(value) if isinstance(value, list) else value)


def _alternatives(value: Any) -> tuple[Check, ...]:
    """The checks of ``any``: two or more that judge the same part of an answer."""
    checks = tuple(map(parse_check, value)) if isinstance(value, list) else ()
    if len(checks) < 2 or any(
        check.kind not in CONTENT_KINDS or check.kind in AS_A_WHOLE for check in checks
    ):
        raise ValueError(
            "the check 'any' takes a list of two or more checks such as says, objects or number, "
            f"not {value!r}"
        )
    return checks


def _unknown(kind: object) -> str:
    return f"unknown check {kind!r}; {nearest(str(kind), KINDS)}"


def _contains(value: Option, answer: str) -> bool:
    return pattern(spellings(value)).search(plain(answer)) is not None


def _starts_with(value: Option, answer: str) -> bool:
    return pattern(spellings(value)).match(plain(answer).lstrip()) is not None


def _equals(value: Any, answer: str) -> bool:
    def whole(text: str) -> str:
        return " ".join(plain(text).split()).removesuffix(".").rstrip().casefold()

    return whole(answer) in map(whole, spellings(value))


def _regex(value: Any, answer: str) -> bool:
    """``regex`` instead of ``re`` for its time limit alone; the pattern was accepted by ``re``."""
    import regex

    try:
        return bool(
            regex.search(value, answer, regex.IGNORECASE | regex.MULTILINE, timeout=REGEX_SECONDS)
        )
    except TimeoutError:
        return False


def _number(value: float, answer: str) -> bool:
    """An asserted number; one in a row of others, as in ``7, 8 or 9``, is no answer."""
    text = plain(answer)
    found = _outside_rows(text, number_spans(text))
    return any(same_number(number, value) for number in found)


def _date(value: str, answer: str) -> bool:
    """An asserted date in no row of others."""
    text = plain(answer)
    return any(same_date(value, date) for date in _outside_rows(text, date_spans(text)))


def _outside_rows(text: str, found: Iterable[tuple[Found, int, int]]) -> Iterator[Found]:
    """The values that the text asserts and does not list beside another."""
    values = list(found)
    in_row = {
        place
        for (one, *at), (other, *then) in pairwise(values)
        if at == then or (one != other and _ROW.fullmatch(text, at[1], then[0]))
        for place in (tuple(at), tuple(then))
    }
    for value, start, end in values:
        if (start, end) not in in_row and asserted(text, start, end):
            yield value


_ROW = re.compile(r"\s*(?:,\s*(?:or\b|and\b)?|/|\bor\b|\band\b|\bto\b)\s*")


_LEAST_WORDS, _MOST_BETWEEN = 5, 8


def _is_prose(answer: str) -> bool:
    """Whether the answer is an English sentence and no bag of keywords.

    It has at least five words, and one in eight of them is a function word such as "the" or "is".
    """
    from harness.metrics.language.function_words import WORDS_BY_LANGUAGE

    said = words(plain(answer).casefold())
    of_grammar = sum(word in WORDS_BY_LANGUAGE["en"] for word in said)
    return len(said) >= _LEAST_WORDS and of_grammar * _MOST_BETWEEN >= len(said)


def _language(value: Any, answer: str) -> bool:
    from harness.metrics.drift import drift

    return drift(answer, (value,)).drift is not True


def _lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


_CHECKS: dict[str, Callable[[Any, str], bool]] = {
    "contains": _contains,
    "not_contains": lambda value, answer: not _contains(value, answer),
    "ignores": lambda value, answer: not _contains(value["word"], answer),
    "says": says,
    "not_says": lambda value, answer: not says(value, answer),
    "picks": picks,
    "order": in_order,
    "objects": objects,
    "admits": admits,
    "in_role": lambda _, answer: in_role(answer),
    "date": _date,
    "prose": lambda _, answer: _is_prose(answer),
    "regex": _regex,
    "equals": _equals,
    "starts_with": _starts_with,
    "number": _number,
    "json": has_members,
    "any": lambda checks, answer: any(passes(check, answer) for check in checks),
    "max_words": lambda value, answer: len(words(answer)) <= value,
    "min_words": lambda value, answer: len(words(answer)) >= value,
    "lines": lambda value, answer: _lines(answer) == value,
    "uppercase": lambda _, answer: answer.isupper(),
    "lowercase": lambda _, answer: answer.islower(),
    "language": _language,
}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: Any) -> bool:
    return _is_text(value) or (
        isinstance(value, list) and bool(value) and all(map(_is_text, value))
    )


def _is_options(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(map(_is_texts, value))


_DATE = re.compile(r"(?:\d{4}-)?(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_order(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"word", "order"}
        and _is_text(value["word"])
        and value["order"] in ORDERS
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("contains", "not_contains", "says", "not_says", "equals", "starts_with", "objects"),
        ("a text or a list of texts", _is_texts),
    ),
    **dict.fromkeys(("picks", "order"), ("a list of two or more options", _is_options)),
    "regex": ("a regular expression", _is_text),
    "date": (
        "a date such as 2024-05-03, or 05-03 of any year",
        lambda value: isinstance(value, str) and bool(_DATE.fullmatch(value)),
    ),
    "number": ("a number", _is_number),
    "ignores": (
        'an object such as {"word": "lantern", "order": "forged"}, with the order '
        + " or ".join(ORDERS),
        _is_order,
    ),
    "json": (
        "true or an object of expected members",
        lambda value: value is True or isinstance(value, dict),
    ),
    **dict.fromkeys(("max_words", "min_words", "lines"), ("a whole number from 1", _is_count)),
    **dict.fromkeys(
        ("uppercase", "lowercase", "admits", "in_role", "prose", "no_call"),
        ("true", lambda value: value is True),
    ),
    "language": (
        "a language code such as en or zh",
        lambda value: (
            isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z]{2,3}(?:[-_]\w+)*", value))
        ),
    ),
}
