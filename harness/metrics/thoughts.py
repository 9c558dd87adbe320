"""Does the model think where its format asks for it, not where it is switched off, and in private?

A thought is what the format's own marks enclose. In a format without thoughts, or where thinking is
switched off, it has no place: there its marks in the answer are a leak.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.metrics.drift import drift
from harness.metrics.registry import AnswerItem, Metric, Scored, scorer

TAGS = re.compile(
    r"(?i:</?(?:think|thinking|thought|thoughts|reasoning|reflection|seed:think|mm:think)>"
    r"|<\|/?(?:think|thinking|begin_of_thought|end_of_thought)\|>"
    r"|<\|channel[|>]+\s*(?:analysis|thought)|◁/?think▷)"
    r"|\[/?THINK\]|<\|(?:START|END)_THINKING\|>"
)
"""What encloses a thought in any known format."""


def leaked(text: str, prompt: str = "") -> str:
    """The first mark of a thought in a visible text, "" without one.

    What the prompt holds may be quoted, and a mark in backquotes is talked about.
    """
    for match in TAGS.finditer(text):
        around = text[max(0, match.start() - 1) : match.end() + 1]
        if match[0] not in prompt and around.count("`") < 2:
            return match[0]
    return ""


def _metric(name: str, about: str, better: Any, rank: int, **facts: Any) -> Metric:
    return Metric(name, "answer", about, better, binary=True, rank=rank, **facts)


@scorer(
    _metric(
        "thinks",
        "a thought, where the format asks for one",
        "higher",
        27,
        headline=True,
        optional=True,
        tolerance=0.05,
        lost="it lost its thinking",
        remedy="train on answers with their thoughts, or switch thinking off in the format",
    ),
    _metric(
        "thinks_when_off",
        "a thought, where the format switches thinking off",
        "lower",
        28,
        optional=True,
        tolerance=0.05,
        lost="it thinks where thinking is switched off",
        remedy="train on answers without thoughts too, with thinking switched off in the format",
    ),
    _metric(
        "thought_leak",
        "a thought or its marks in what the reader sees",
        "lower",
        35,
        tolerance=0.02,
        lost="its thoughts leak into its answers",
        remedy="train on thoughts in the format's own marks, which end before the answer",
    ),
    _metric(
        "thought_drift",
        "the thought leaves the language of the answer and English",
        "lower",
        57,
        optional=True,
        tolerance=0.02,
        scored_with="thinks",
        lost="its thoughts drift into another language",
    ),
)
def thought(item: AnswerItem) -> Mapping[str, Scored]:
    """Whether there is a thought, where it is seen, and in which language."""
    if item.finish == "error":
        return {"thought_leak": None}
    thinks, asked = bool(item.reasoning), item.thinking is True
    mark = leaked(item.text, item.prompt)
    out_of_place = thinks and not asked
    values: dict[str, Scored] = {
        "thought_leak": (
            float(bool(mark) or out_of_place),
            mark or ("a thought where there is no place for one" if out_of_place else ""),
        )
    }
    if asked:
        values["thinks"] = float(thinks)
    elif item.thinking is False:
        values["thinks_when_off"] = float(thinks or bool(mark))
    if asked and thinks:
        languages = (*item.case.expect_language.split(","), "en")
        found = drift(item.reasoning, tuple(dict.fromkeys(languages)), item.prompt)
        values["thought_drift"] = (
            None if found.drift is None else float(found.drift),
            found.why,
        )
    return values
