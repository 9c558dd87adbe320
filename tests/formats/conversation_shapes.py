"""Random conversations with thoughts, calls, results and tools, and their rows for transformers."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from harness.conversation import Conversation, Message, Tool, ToolCall

words = st.one_of(
    st.sampled_from(
        [
            "Hi",
            "What is it?",
            " padded ",
            "two\nlines",
            "\n\nlate",
            'He said "no" & <b>left</b>.',
            "ä € 漢字 🙂",
            "{{ x }} {% y %}",
            "a\\b",
            "7",
        ]
    ),
    st.text("abc .<>{}\"'\n", min_size=1, max_size=12).filter(str.strip),
)
plain_words = st.sampled_from(["Hi", "It is so.", "two\nlines", "ä € 漢字", 'a "b" <c>', "7"])
values = st.recursive(
    st.one_of(
        plain_words,
        st.integers(-5, 500),
        st.sampled_from([1.5, -0.25]),
        st.booleans(),
        st.none(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["k", "unit"]), inner, max_size=2),
    ),
    max_leaves=3,
)
PARAMETERS = {"city": "string", "days": "integer", "full": "boolean", "where": "object"}
TOOL_NAMES = ("get_weather", "clock")


def tool(name: str, *, described: bool = True) -> Tool:
    """A tool whose parameters are those of ``arguments``."""
    properties = {
        key: {"type": kind, "description": f"The {key}."} for key, kind in PARAMETERS.items()
    }
    function: dict[str, Any] = {"name": name, "description": f"Does <{name}> & more."}
    parameters = {"type": "object", "properties": properties, "required": ["city"]}
    if described:
        function["parameters"] = parameters
    return Tool(json.dumps({"type": "function", "function": function}))


arguments = st.fixed_dictionaries(
    {},
    optional={
        "city": plain_words,
        "days": st.integers(-3, 40),
        "full": st.booleans(),
        "where": st.dictionaries(st.sampled_from(["k", "unit"]), values, max_size=2),
    },
)


@st.composite
def conversations(
    draw: st.DrawFn,
    *,
    thoughts: bool = True,
    calls: bool = True,
    most_calls: int = 2,
    words_before_calls: bool = True,
    thoughts_before_calls: bool = True,
    system: bool = True,
    developer: bool = True,
    texts: st.SearchStrategy[str] = words,
    always: bool = False,
) -> Conversation:
    """A conversation that ends in an answer. With ``always``, each answer thinks, some call."""
    messages: list[Message] = []
    if system and draw(st.booleans()):
        messages.append(Message("system", draw(texts)))
    if developer and draw(st.integers(0, 5)) == 0:
        messages.append(Message("developer", draw(texts)))
    with_tools = calls and (always or draw(st.booleans()))
    number = 0
    exchanges = draw(st.integers(1, 3))
    for exchange in range(exchanges):
        messages.append(Message("user", draw(texts)))
        for _ in range(draw(st.integers(always and exchange == 0, 2)) if with_tools else 0):
            rows = []
            for _ in range(draw(st.integers(1, most_calls))):
                number += 1
                rows.append(
                    ToolCall(
                        draw(st.sampled_from(TOOL_NAMES)),
                        json.dumps(draw(arguments), ensure_ascii=False),
                        f"call{number:05d}",
                    )
                )
            said = draw(texts) if words_before_calls and draw(st.booleans()) else ""
            think = thoughts and thoughts_before_calls and (always or draw(st.booleans()))
            messages.append(_answer(said, draw(texts) if think else None, tuple(rows)))
            if exchange == exchanges - 1 and draw(st.integers(0, 3)) == 0:
                return _whole(messages, with_tools)
            messages += [
                Message("tool", draw(texts), name=row.name, tool_call_id=row.id) for row in rows
            ]
        think = thoughts and (always or draw(st.booleans()))
        messages.append(_answer(draw(texts), draw(texts) if think else None))
    return _whole(messages, with_tools)


def _answer(said: str, thought: str | None, calls: tuple[ToolCall, ...] = ()) -> Message:
    return Message("assistant", said, reasoning=thought, tool_calls=calls)


def _whole(messages: list[Message], with_tools: bool) -> Conversation:
    tools = tuple(map(tool, TOOL_NAMES)) if with_tools else ()
    return Conversation("c", tuple(messages), tools=tools)


def rows(conversation: Conversation) -> list[dict[str, Any]]:
    """The messages as transformers' templates get them."""
    return [_row(message) for message in conversation.messages]


def _row(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name:
        row["name"] = message.name
    if message.reasoning is not None:
        row["reasoning_content"] = message.reasoning
    if message.tool_calls:
        row["tool_calls"] = [
            {
                **({"id": call.id} if call.id else {}),
                "type": "function",
                "function": {"name": call.name, "arguments": call.values()},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        row["tool_call_id"] = message.tool_call_id
    return row
