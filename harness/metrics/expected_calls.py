"""The tool calls that a case expects, and whether an answer makes them.

Calls are compared as JSON: the order of keys and of parallel calls does not matter, 1 equals 1.0
but not true, and strings must match exactly. A case may list alternative arguments of a call.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.conversation import ParsedAnswer, ToolCall

_SHOWN = 60
_FORM = (
    "the check 'calls' takes a list of calls such as"
    ' {"name": "weather", "arguments": {"city": "Oslo"}}; arguments may be a list of'
    " alternative objects"
)


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """A call that a case expects. ``arguments`` are JSON objects as text; any of them is right."""

    name: str
    arguments: tuple[str, ...]

    def accepts(self, call: ToolCall) -> bool:
        """Whether the call has this name and one of the accepted arguments."""
        return call.name == self.name and any(
            same_json(call.values(), json.loads(accepted)) for accepted in self.arguments
        )


def expected_calls(value: Any) -> tuple[ExpectedCall, ...]:
    """The value of a check ``calls``. Raises ValueError for anything else."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{_FORM}, not {value!r}")
    return tuple(map(_expected, value))


def _expected(value: Any) -> ExpectedCall:
    if not isinstance(value, dict) or not {"name"} <= value.keys() <= {"name", "arguments"}:
        raise ValueError(f"{_FORM}, not {value!r}")
    name, given = value["name"], value.get("arguments", {})
    accepted = given if isinstance(given, list) else [given]
    if not isinstance(name, str) or not name or not accepted:
        raise ValueError(f"{_FORM}, not {value!r}")
    if not all(isinstance(arguments, dict) for arguments in accepted):
        raise ValueError(f"{_FORM}, not {value!r}")
    return ExpectedCall(name, tuple(json.dumps(each, sort_keys=True) for each in accepted))


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; true is not 1, and the order of keys does not matter."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same_json(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def why_not_valid(answer: ParsedAnswer, tools: Sequence[str]) -> str:
    """Why the calls of an answer are not valid; "" if they are.

    There must be one, and every call must parse, be closed and name one of the tools.
    """
    if answer.malformed:
        return f"a call does not parse: {answer.malformed[0][:_SHOWN]!r}"
    if answer.unclosed:
        return "a thought or a call is not closed"
    if not answer.tool_calls:
        return "no call"
    unknown = [call.name for call in answer.tool_calls if call.name not in tools]
    return f"calls {unknown[0]!r}, which is not one of the tools" if unknown else ""


def why_not_exact(calls: Sequence[ToolCall], expected: Sequence[ExpectedCall]) -> str:
    """How the calls differ from the expected ones, in any order; "" if they do not."""
    left = list(expected)
    for call in calls:
        match = next((one for one in left if one.accepts(call)), None)
        if match is None:
            return f"not expected: {call.name}({call.arguments[:_SHOWN]})"
        left.remove(match)
    return f"missing: a call of {left[0].name}" if left else ""
