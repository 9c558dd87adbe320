"""Is the answer right? The checks of a case, judged strictly and leniently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.metrics.assertions import plain
from harness.metrics.checks import AS_A_WHOLE, CONTENT_KINDS, passes
from harness.metrics.copied import without_copies
from harness.metrics.registry import AnswerItem, Metric, Scored, scorer
from harness.records import CALL_CHECKS, Case, Check

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

    An empty answer is 0 three times, whatever the checks: many hold vacuously. What the answer
    copies from the conversation answers nothing, so checks of content do not see it.

    Lenient is never below strict: a check that holds as written also holds leniently. Checks of
    calls are left out (harness.metrics.calls). Raises ValueError when the case has no other checks,
    because then there is nothing to judge.
    """
    checks = [check for check in case.checks if check.kind not in CALL_CHECKS]
    if not checks:
        raise ValueError(f"the case {case.id!r} has no checks")
    text = answer.strip()
    own = without_copies(case.messages, text).strip()
    relaxed, relaxed_own = lenient_text(text), lenient_text(own)
    strict = [_holds(check, text, own) for check in checks]
    lenient = [
        held or (check.kind not in _AS_WRITTEN and _holds(check, relaxed, relaxed_own))
        for check, held in zip(checks, strict, strict=True)
    ]
    content = [
        held for check, held in zip(checks, lenient, strict=True) if check.kind in CONTENT_KINDS
    ]
    return AnswerScore(
        strict=float(all(strict)),
        lenient=float(all(lenient)),
        on_task=float(all(content or lenient)),
        failed=tuple(_name(check) for check, held in zip(checks, strict, strict=True) if not held),
    )


def _holds(check: Check, text: str, own: str) -> bool:
    judged = text if check.kind in AS_A_WHOLE else own
    return bool(judged) and passes(check, judged)


def _name(check: Check) -> str:
    if check.kind == "any":
        return " or ".join(map(_name, check.value))
    return f"{check.kind}={check.value!r}"


def lenient_text(answer: str) -> str:
    """The answer without markdown marks, quotes, case, and one leading phrase such as "The answer
    is".
    """
    text = _MARKS.sub("", plain(answer)).casefold().strip()
    lead = _LEAD.match(text)
    return text[lead.end() :] if lead else text


@scorer(
    Metric(
        "on_task",
        "answer",
        "the content of the answer is right, whatever its form",
        "higher",
        binary=True,
        headline=True,
        by_depth=True,
        tolerance=0.03,
        rank=20,
    ),
    Metric(
        "answer_strict",
        "answer",
        "the unchanged answer satisfies all checks of the case",
        "higher",
        binary=True,
        by_depth=True,
        tolerance=0.03,
        rank=21,
    ),
    Metric(
        "answer_lenient",
        "answer",
        "the answer satisfies all checks once markup, case and one leading phrase are removed",
        "higher",
        binary=True,
        tolerance=0.03,
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
