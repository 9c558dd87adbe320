"""Thoughts, calls and tools to a chat server and back: nothing is lost, nothing breaks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.chat_messages import chat_messages, parsed_message
from harness.backends.protocol import Answer
from harness.conversation import Message, ParsedAnswer, ToolCall
from harness.evaluation.store.payloads import from_payload, to_payload

CALL = ToolCall("weigh", '{"of": "7"}')
MESSAGES = (
    Message("user", "q"),
    Message("assistant", "", reasoning="t", tool_calls=(CALL, ToolCall("f", "{}"))),
    Message("tool", "r1"),
    Message("tool", "r2", "f"),
    Message("assistant", "a"),
)


def test_each_call_has_an_id_and_each_result_names_its_own():
    _, called, first, second, last = chat_messages(MESSAGES)
    ids = [call["id"] for call in called["tool_calls"]]
    assert ids == [first["tool_call_id"], second["tool_call_id"]] and len(set(ids)) == 2
    assert called["reasoning_content"] == "t"
    assert called["tool_calls"][0]["function"] == {"name": "weigh", "arguments": '{"of": "7"}'}
    assert last == {"role": "assistant", "content": "a"}


def test_given_ids_are_kept():
    call = ToolCall("f", "{}", "c1")
    messages = (
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "r", tool_call_id="c1"),
    )
    called, result = chat_messages(messages)
    assert called["tool_calls"][0]["id"] == result["tool_call_id"] == "c1"


FUNCTION = {"name": "weigh", "arguments": '{"of": "7"}'}


@pytest.mark.parametrize(
    ("message", "parsed"),
    [
        ({"content": "a"}, None),
        ({"content": "a", "reasoning_content": None, "tool_calls": []}, None),
        ({"content": "a", "reasoning": "t"}, ParsedAnswer("a", "t")),
        ({"tool_calls": [{"id": "x", "function": FUNCTION}]}, ParsedAnswer("", None, (CALL,))),
        (
            {"tool_calls": [{"function": {"name": "weigh", "arguments": {"of": "7"}}}]},
            ParsedAnswer("", None, (CALL,)),
        ),
        (
            {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            ParsedAnswer("", malformed=("{'function': {'name': 'f', 'arguments': '{'}}",)),
        ),
        ({"tool_calls": [3]}, ParsedAnswer("", malformed=("3",))),
        ({"tool_calls": "x"}, None),
        (None, None),
    ],
)
def test_what_a_server_took_apart(message, parsed):
    text = (message or {}).get("content") or ""
    assert parsed_message(message, text) == parsed


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: (
            st.lists(each, max_size=3)
            | st.dictionaries(
                st.sampled_from(("tool_calls", "function", "name", "arguments", "reasoning")),
                each,
                max_size=3,
            )
        ),
    )
)
def test_any_message_is_taken_apart_without_a_crash(message):
    parsed = parsed_message(message, "")
    assert parsed is None or parsed.reasoning or parsed.tool_calls or parsed.malformed


def test_the_parts_of_an_answer_are_stored_with_it():
    class Planned:
        request = None

    plain = Answer("a", "stop", "")
    assert "parsed" not in to_payload(plain), "a file without parts stays what it was"
    for answer in (plain, Answer("a", "stop", "", parsed=ParsedAnswer("a", "t", (CALL,), ("x",)))):
        assert from_payload(Planned, json.dumps(to_payload(answer))) == answer
    with pytest.raises(ValueError, match="parsed"):
        from_payload(Planned, json.dumps({**to_payload(plain), "parsed": {"parsed": 1}}))
