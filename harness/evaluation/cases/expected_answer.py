"""What a right answer to a case is, in words for a reader of the report."""

from __future__ import annotations

import json
from typing import Any

from harness.metrics.expected_calls import ExpectedCall
from harness.records import Case, Check

#: How a check reads; ``{}`` is its value.
_WORDS = {
    "says": "says {}",
    "not_says": "does not say {}",
    "order": "in this order: {}",
    "number": "the number {}",
    "date": "the date {}",
    "objects": "denies the premise of {}",
    "admits": "admits that nobody can know",
    "in_role": "speaks as its character",
    "prose": "is written in sentences",
    "contains": "contains {}",
    "starts_with": "begins with {}",
    "regex": "matches {}",
    "equals": "is {}",
    "not_contains": "without {}",
    "ignores": "does not say {}",
    "max_words": "at most {} words",
    "min_words": "at least {} words",
    "lines": "{} lines",
    "uppercase": "in capitals",
    "lowercase": "in small letters",
    "language": "in the language {}",
    "no_call": "calls no tool",
}


def expected_answer(case: Case) -> str:
    """``says “Oslo” or “Kristiania”; at most 3 words``, the right option, or the reference."""
    if case.choices:
        return case.choices[case.answer or 0]
    if case.reference is not None:
        return case.reference
    return "; ".join(map(check_text, case.checks))


def check_text(check: Check) -> str:
    """One check in words."""
    if check.kind == "any":
        return " or ".join(map(check_text, check.value))
    if check.kind == "picks":
        right, *wrong = check.value
        return f"picks {_any_of(right)}, not {_any_of(wrong)}"
    if check.kind == "order":
        return _WORDS["order"].format(", ".join(map(_any_of, check.value)))
    if check.kind == "json":
        return "has JSON" if check.value is True else f"has JSON with {_json(check.value)}"
    if check.kind == "calls":
        return "calls " + " and ".join(map(_call, check.value))
    value = check.value["word"] if check.kind == "ignores" else check.value
    return _WORDS.get(check.kind, f"{check.kind} {{}}").format(_any_of(value))


def _any_of(value: Any) -> str:
    """One text in quotes, or several with ``or`` between them; a number as it is."""
    if isinstance(value, list | tuple):
        return " or ".join(map(_any_of, value))
    return f"“{value}”" if isinstance(value, str) else str(value)


def _call(call: ExpectedCall) -> str:
    return f"{call.name}({' or '.join(call.arguments)})"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
