"""docs/data.md: every row and entry that it shows is read as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.conversation import Message, ToolCall
from harness.data.conversations import parse_conversation, parse_dialogue
from harness.data.entries.message_entries import parse_entry
from harness.data.entries.row_notes import RowNotes
from harness.data.entries.speakers import SPEAKERS
from harness.data.schemas import SCHEMAS, detect

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^\| ([^|]+) \| `(\{.*\})` \| (.*) \|$", PAGE, re.M)
ROWS = [(name.strip("`"), json.loads(text)) for name, text, _ in SHOWN if name.startswith("`")]
ENTRIES = {name: json.loads(text) for name, text, _ in SHOWN if not name.startswith("`")}
THOUGHT, CALL = "1 and 2.", ToolCall("add", '{"a": 1}')
ANSWER = Message("assistant", "3", reasoning=THOUGHT)
READ = {
    "roles": Message("developer", "Be brief."),
    "thought": ANSWER,
    "thought in tags": ANSWER,
    "thought as a turn": Message("assistant", "", reasoning=THOUGHT),
    "calls": Message("assistant", "", tool_calls=(ToolCall("add", '{"a": 1}', "c1"),)),
    "legacy call": Message("assistant", "", tool_calls=(CALL,)),
    "call as a turn": Message("assistant", "", tool_calls=(CALL,)),
    "calls in tags": Message("assistant", "", tool_calls=(CALL,)),
    "result": Message("tool", '{"sum": 3}', tool_call_id="c1"),
    "parts": ANSWER,
    "Harmony": Message("assistant", "", tool_calls=(CALL,)),
}


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_each_row_is_of_its_schema(name, row):
    schema = detect(row)
    assert schema is SCHEMAS[name]
    assert parse_conversation(row, "f:1", schema=schema).messages[-1].role == "assistant"


def test_every_schema_is_shown():
    assert [name for name, _ in ROWS] == list(SCHEMAS)


@pytest.mark.parametrize("name", READ)
def test_each_entry_is_read_as_the_page_says(name):
    assert parse_entry(ENTRIES[name], "f:1", RowNotes()).messages == (READ[name],)


def test_nothing_is_shown_without_a_test():
    assert ENTRIES.keys() == {*READ, "tools"}
    question = [{"role": "user", "content": "q"}]
    [tool] = parse_dialogue(question, ENTRIES["tools"]["tools"], "f:1")[1]
    assert tool.name == "add"


def test_every_speaker_is_on_the_page():
    words = set(re.findall(r"\w+", PAGE))
    assert SPEAKERS.keys() <= words
