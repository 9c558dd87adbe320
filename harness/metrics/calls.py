"""Does the answer make the right tool call, and none when no tool fits?"""

from __future__ import annotations

from collections.abc import Mapping

from harness.conversation import ParsedAnswer
from harness.metrics.answer import score_answer
from harness.metrics.expected_calls import why_not_exact, why_not_valid
from harness.metrics.registry import AnswerItem, Metric, Scored, scorer
from harness.records import CALL_CHECKS

_REMEDY = "train on conversations with tool calls, in the format you will use"


@scorer(
    Metric(
        "call_valid",
        "call",
        "when a call is expected: the answer has one, and every call parses and names one of the"
        " tools",
        "higher",
        label="valid calls",
        binary=True,
        tolerance=0.03,
        lost="its tool calls do not parse",
        remedy=_REMEDY,
        rank=23,
    ),
    Metric(
        "call_exact",
        "call",
        "when a call is expected: names and arguments equal the expected ones as JSON",
        "higher",
        label="exact calls",
        binary=True,
        headline=True,
        tolerance=0.03,
        lost="its tool calls are wrong",
        remedy=_REMEDY,
        rank=24,
    ),
    Metric(
        "call_when_none",
        "call",
        "the answer makes a call although none is right: no tool fits, an argument is missing, or "
        "the result is there already",
        "lower",
        label="needless calls",
        binary=True,
        tolerance=0.03,
        lost="it calls tools when none fits",
        remedy="also train on conversations in which the tools are not called",
        rank=25,
    ),
    Metric(
        "tool_answer",
        "call",
        "when no call is right: the text gives what the case asks for, such as a tool's result",
        "higher",
        binary=True,
        optional=True,
        tolerance=0.03,
        lost="it does not use what its tools return",
        remedy="train on conversations that continue after a tool result",
        rank=26,
    ),
)
def called(item: AnswerItem) -> Mapping[str, Scored]:
    """Compare the calls of an answer with those that its case expects."""
    answer = item.parsed or ParsedAnswer(item.text)
    if item.finish == "error":
        return dict.fromkeys(("call_valid", "call_exact", "call_when_none"))
    expected = next((check.value for check in item.case.checks if check.kind == "calls"), None)
    if expected is None:
        none = (None, "no call is expected")
        called_any = bool(answer.tool_calls or answer.malformed)
        values: dict[str, Scored] = {
            "call_valid": none,
            "call_exact": none,
            "call_when_none": float(called_any),
        }
        if any(check.kind not in CALL_CHECKS for check in item.case.checks):
            values["tool_answer"] = (
                0.0 if called_any else score_answer(item.case, item.text).on_task
            )
        return values
    not_valid = why_not_valid(answer, [tool.name for tool in item.case.tools])
    not_exact = not_valid or why_not_exact(answer.tool_calls, expected)
    return {
        "call_valid": (float(not not_valid), not_valid),
        "call_exact": (float(not not_exact), not_exact),
        "call_when_none": (None, "a call is expected"),
    }
