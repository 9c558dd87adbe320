"""Conversations of the usual shapes, sent in addition to the user's own rows.

Their words hold what runtimes get wrong: quotes, braces, lines, letters beyond ASCII.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.records import Format

_SYSTEM = Message("system", "Answer in one sentence, and name your source.")
_TURNS = (
    Message("user", "Which bridge is the oldest in Lisbon?"),
    Message("assistant", "The aqueduct has the oldest arches; no bridge is older."),
    Message("user", 'What does "Ponte" mean?\nGive one word, as in {"word": "…"}.'),
    Message("assistant", '{"word": "bridge"}'),
    Message("user", "E em português: não é «ponte»? 漢 🙂"),
    Message("assistant", "É isso mesmo."),
)
_PARAMETERS = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "description": 'A town, such as "Faro" & <Évora>.'},
        "days": {"type": "integer", "description": "How many days ahead."},
    },
    "required": ["place"],
}
TIDES = Tool(
    json.dumps(
        {
            "type": "function",
            "function": {
                "name": "tide_table",
                "description": "Heights of the tide.",
                "parameters": _PARAMETERS,
            },
        },
        ensure_ascii=False,
    )
)
_CALL = ToolCall("tide_table", json.dumps({"place": "Faro", "days": 2}), "tide00001")
_CALLED = (
    Message("user", "How high is the tide in Faro?"),
    Message("assistant", "", tool_calls=(_CALL,)),
    Message("tool", '{"metres": 2.4}', name="tide_table", tool_call_id=_CALL.id),
    Message("assistant", "It is 2.4 metres."),
    Message("user", "And tomorrow?"),
    Message("assistant", "A little less."),
)
_THOUGHT = (
    Message("user", "Is 91 a prime?"),
    Message("assistant", "No: 7 × 13.", reasoning="7 times 13 is 91."),
    Message("user", "And 97?"),
    Message("assistant", "Yes.", reasoning="No prime up to 9 divides it."),
)


def standard_shapes(chat_format: Format) -> Iterator[Conversation]:
    """The shapes that the format supports. Each ends with an answer."""
    yield Conversation("shape: one question", _TURNS[:2])
    yield Conversation("shape: several questions", _TURNS)
    if chat_format.system != "unsupported":
        yield Conversation("shape: system prompt", (_SYSTEM, *_TURNS[:2]))
        yield Conversation("shape: system prompt, several questions", (_SYSTEM, *_TURNS))
    if chat_format.calls:
        yield Conversation("shape: tool calls", _CALLED, tools=(TIDES,))
    if chat_format.thinks:
        yield Conversation("shape: thoughts", _THOUGHT)
