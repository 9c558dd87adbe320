"""Does the model think when its format asks for it, and only then, and hide its thoughts?

A thought is what the format's own markers enclose. In a format without thoughts, or with thinking
switched off, a thought or its markers in the answer are a leak.
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
"""The markers of a thought in all known formats."""


def leaked(text: str, prompt: str = "") -> str:
    """The first thought marker in the visible text, or "".

    Markers that the prompt contains or that stand in backquotes are quotations and do not count.
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
        "the answer has a thought, in a format that asks for one",
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
        "the answer has a thought although thinking is switched off",
        "lower",
        28,
        optional=True,
        tolerance=0.05,
        lost="it thinks although thinking is switched off",
        remedy="train on answers without thoughts too, with thinking switched off in the format",
    ),
    _metric(
        "thought_leak",
        "the text that the reader sees contains a thought or its markers",
        "lower",
        35,
        tolerance=0.02,
        lost="its thoughts leak into its answers",
        remedy="train on thoughts in the format's own markers, closed before the answer",
    ),
    _metric(
        "thought_drift",
        "the thought is neither in English nor in the language of the answer",
        "lower",
        57,
        optional=True,
        tolerance=0.02,
        scored_with="thinks",
        lost="its thoughts drift into another language",
    ),
)
def thought(item: AnswerItem) -> Mapping[str, Scored]:
    """Whether there is a thought, whether the reader sees it, and its language."""
    if item.finish == "error":
        return {"thought_leak": None}
    thinks, asked = bool(item.reasoning), item.thinking is True
    mark = leaked(item.text, item.prompt)
    out_of_place = thinks and not asked
    values: dict[str, Scored] = {
        "thought_leak": (
            float(bool(mark) or out_of_place),
            mark or ("a thought where the format has none" if out_of_place else ""),
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
