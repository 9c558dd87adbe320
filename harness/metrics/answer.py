"""Is the answer right? The checks of a case, judged strictly and leniently."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import nearest
from harness.metrics.normalise import composed
from harness.metrics.parsing import has_members, number_in
from harness.metrics.registry import AnswerItem, Metric, Scored, scorer
from harness.metrics.words import SPACED_LETTER, words
from harness.records import Case, Check

CONTENT_KINDS = ("contains", "regex", "equals", "starts_with", "number", "json")
FORM_KINDS = (
    "not_contains",
    "max_words",
    "min_words",
    "lines",
    "uppercase",
    "lowercase",
    "language",
)
KINDS = CONTENT_KINDS + FORM_KINDS

REGEX_SECONDS = 1.0
"""Time limit of one regex check: a case file must not be able to stop a run."""

_AS_WRITTEN = ("uppercase", "lowercase", "json")
_LEAD = re.compile(
    r"(?:(?:sure|certainly|of course|yes|okay|ok)[,!.:]+\s+)?"
    r"(?:(?:the )?(?:correct |final )?answer(?: is:?|:)\s+|it(?:'s| is)\s+"
    r"|(?:response|output|result|assistant):\s+|here(?:'s| is)[^\n:]{0,60}:\s+)?"
)
_MARKS = re.compile(r"[*_`>\"“”„«»‘]|#+|(?<!\w)['’]|['’](?!\w)")


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """One answer's worth, each 0 or 1.

    ``failed`` names the checks that failed strictly, as ``kind=value``.
    """

    strict: float
    lenient: float
    on_task: float
    failed: tuple[str, ...]


def score_answer(case: Case, answer: str) -> AnswerScore:
    """Judge the text before the stop.

    An empty answer is 0 three times, whatever the checks: many hold vacuously.

    Lenient is never below strict: a check that holds as written also holds leniently. Raises
    ValueError when the case has no checks, because then there is nothing to judge.
    """
    if not case.checks:
        raise ValueError(f"the case {case.id!r} has no checks")
    text = answer.strip()
    if not text:
        return AnswerScore(0.0, 0.0, 0.0, tuple(_name(check) for check in case.checks))
    relaxed = lenient_text(text)
    strict = {index: passes(check, text) for index, check in enumerate(case.checks)}
    lenient = {
        index: held or _passes_leniently(case.checks[index], relaxed)
        for index, held in strict.items()
    }
    content = [index for index, check in enumerate(case.checks) if check.kind in CONTENT_KINDS]
    return AnswerScore(
        strict=float(all(strict.values())),
        lenient=float(all(lenient.values())),
        on_task=float(any(lenient[index] for index in content or strict)),
        failed=tuple(_name(case.checks[index]) for index, held in strict.items() if not held),
    )


def _passes_leniently(check: Check, relaxed: str) -> bool:
    return check.kind not in _AS_WRITTEN and passes(check, relaxed)


def _name(check: Check) -> str:
    return f"{check.kind}={check.value!r}"


def passes(check: Check, answer: str) -> bool:
    """Whether one check holds for a text as it is.

    Raises ValueError for a kind that does not exist.
    """
    try:
        holds = _CHECKS[check.kind]
    except KeyError:
        raise ValueError(_unknown(check.kind)) from None
    return holds(check.value, answer)


def lenient_text(answer: str) -> str:
    """The answer without markdown marks, quotes, case, and one leading phrase such as "The answer
    is".
    """
    text = _MARKS.sub("", _plain(answer)).casefold().strip()
    lead = _LEAD.match(text)
    return text[lead.end() :] if lead else text


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


def _unknown(kind: object) -> str:
    return f"unknown check {kind!r}; {nearest(str(kind), KINDS)}"


def _plain(text: str) -> str:
    """Composed letters and straight apostrophes, so that two spellings of one word are one."""
    return composed(text).replace("’", "'")


def _texts(value: Any) -> Iterable[str]:
    return (value,) if isinstance(value, str) else value


def _bounded(needle: str) -> str:
    """A pattern for a text at word boundaries.

    No boundary is asked of an edge that is no letter (``C++``) or whose script writes no spaces;
    Korean particles follow their word without one, so Hangul needs none either.
    """
    parts = _plain(needle).split()
    pattern = r"\s+".join(map(re.escape, parts))
    edge = rf"(?:(?![\uac00-\ud7af]){SPACED_LETTER}|_)"
    before = f"(?<!{_EDGE})" if parts and re.match(edge, parts[0]) else ""
    after = f"(?!{_EDGE})" if parts and re.match(edge, parts[-1][-1]) else ""
    return before + pattern + after


_EDGE = SPACED_LETTER.replace(r"\W_", r"\W")


def _contains(value: Any, answer: str) -> bool:
    text = _plain(answer)
    return any(re.search(_bounded(needle), text, re.IGNORECASE) for needle in _texts(value))


def _starts_with(value: Any, answer: str) -> bool:
    text = _plain(answer).lstrip()
    return any(re.match(_bounded(needle), text, re.IGNORECASE) for needle in _texts(value))


def _equals(value: Any, answer: str) -> bool:
    def whole(text: str) -> str:
        return " ".join(_plain(text).split()).removesuffix(".").rstrip().casefold()

    return whole(answer) in map(whole, _texts(value))


def _regex(value: Any, answer: str) -> bool:
    """``regex`` instead of ``re`` for its time limit alone; the pattern was accepted by ``re``."""
    import regex

    try:
        return bool(
            regex.search(value, answer, regex.IGNORECASE | regex.MULTILINE, timeout=REGEX_SECONDS)
        )
    except TimeoutError:
        return False


def _language(value: Any, answer: str) -> bool:
    from harness.metrics.drift import drift

    return drift(answer, (value,)).drift is not True


def _lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


_CHECKS: dict[str, Callable[[Any, str], bool]] = {
    "contains": _contains,
    "not_contains": lambda value, answer: not _contains(value, answer),
    "regex": _regex,
    "equals": _equals,
    "starts_with": _starts_with,
    "number": number_in,
    "json": has_members,
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


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("contains", "not_contains", "equals", "starts_with"),
        ("a text or a list of texts", _is_texts),
    ),
    "regex": ("a regular expression", _is_text),
    "number": ("a number", _is_number),
    "json": (
        "true or an object of expected members",
        lambda value: value is True or isinstance(value, dict),
    ),
    **dict.fromkeys(("max_words", "min_words", "lines"), ("a whole number from 1", _is_count)),
    **dict.fromkeys(("uppercase", "lowercase"), ("true", lambda value: value is True)),
    "language": (
        "a language code such as en or zh",
        lambda value: (
            isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z]{2,3}(?:[-_]\w+)*", value))
        ),
    ),
}


@scorer(
    Metric(
        "on_task",
        "answer",
        "at least one check of content holds",
        "higher",
        binary=True,
        headline=True,
        by_depth=True,
        margin=0.10,
        rank=20,
    ),
    Metric(
        "answer_strict",
        "answer",
        "all checks of the case hold on the answer as it is",
        "higher",
        binary=True,
        by_depth=True,
        margin=0.10,
        rank=21,
    ),
    Metric(
        "answer_lenient",
        "answer",
        "all checks hold after markup, case and one leading phrase are removed",
        "higher",
        binary=True,
        margin=0.10,
        rank=22,
    ),
)
def checked(item: AnswerItem) -> Mapping[str, Scored]:
    """The three readings of a case's checks; the failed checks are the reason."""
    graded = score_answer(item.case, item.text)
    return {
        "answer_strict": (graded.strict, ", ".join(graded.failed)),
        "answer_lenient": graded.lenient,
        "on_task": graded.on_task,
    }
