"""A conversation that is written as a row is read back as the same one."""

from __future__ import annotations

import json
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.data.conversations import as_row, parse_conversation
from harness.data.schemas import detect

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "200"))

_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tools>", "</tools>", "\n", " ")
_PIECES = (
    *_TAGS,
    '{"name": "f", "arguments": {}}',
    "<tool_response>",
    "</tool_response>",
    "a",
    "É",
)
texts = st.lists(st.sampled_from(_PIECES), max_size=7).map("".join)
names = st.sampled_from(("weigh", "look_up", "f"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
arguments = st.dictionaries(texts, values, max_size=3).map(json.dumps)


@st.composite
def conversations(draw):
    """Any conversation that a row can hold: each result behind its call."""
    messages = []
    if draw(st.booleans()):
        messages.append(Message(draw(st.sampled_from(("system", "developer"))), draw(texts)))
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(texts), draw(st.none() | names)))
        weight, with_ids = draw(st.sampled_from((0.0, 0.5, 1.0))), draw(st.booleans())
        calls = tuple(
            ToolCall(draw(names), json.dumps(json.loads(draw(arguments)), ensure_ascii=False), id)
            for id in (f"c{n}" if with_ids else None for n in range(draw(st.integers(0, 2))))
        )
        thought = draw(st.none() | texts.filter(bool))
        messages.append(Message("assistant", draw(texts), None, weight, thought, calls))
        for call in calls[: draw(st.integers(0, 2))]:
            messages.append(Message("tool", draw(texts), call.name, tool_call_id=call.id))
    tools = draw(st.lists(names, unique=True, max_size=2))
    definitions = ({"type": "function", "function": {"name": name}} for name in tools)
    return Conversation("a", tuple(messages), tools=tuple(Tool(json.dumps(d)) for d in definitions))


@settings(max_examples=EXAMPLES)
@given(conversations())
def test_a_written_row_is_read_as_the_same(conversation):
    row = json.loads(json.dumps(as_row(conversation)))
    read = parse_conversation(row, "", schema=detect(row))
    assert (read.messages, read.tools) == (conversation.messages, conversation.tools)


def test_tags_that_are_words_stay_words():
    """The control: without the mark that as_row writes, these are read as thought and call."""
    text = '<think>a</think>b<tool_call>{"name": "f"}</tool_call>'
    row = as_row(Conversation("a", (Message("user", "q"), Message("assistant", text))))
    assert row["messages"][1] == {
        "role": "assistant",
        "content": text,
        "reasoning_content": "",
        "tool_calls": [],
    }
    del row["messages"][1]["reasoning_content"], row["messages"][1]["tool_calls"]
    read = parse_conversation(row, "").messages[1]
    assert read == Message("assistant", "b", reasoning="a", tool_calls=(ToolCall("f"),))
