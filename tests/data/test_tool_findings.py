"""Calls that do not fit their tools are found, and sound ones are not; what there is, is counted."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.data.tool_arguments import unfit
from harness.data.tool_use import ThoughtsAndCalls, tool_findings

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["C", "F"]},
        "at": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
        "who": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    },
    "required": ["city"],
}


def tool(name="weather", parameters=PARAMETERS):
    function = {"name": name, "parameters": parameters}
    return Tool(json.dumps({"type": "function", "function": function}))


def call(name="weather", id=None, **arguments):
    return ToolCall(name, json.dumps(arguments), id)


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        ({}, "city is missing"),
        ({"city": 3}, "city is 3, not string"),
        ({"city": "Oslo", "days": "2"}, "days is '2', not integer"),
        ({"city": "Oslo", "days": True}, "days is True, not integer"),
        ({"city": "Oslo", "unit": "K"}, "unit is 'K', not one of ['C', 'F']"),
        ({"city": "Oslo", "town": "x"}, "town is not one of its arguments"),
        ({"city": "Oslo", "tags": ["a", 1]}, "tags[1] is 1, not string"),
        ({"city": "Oslo", "place": {}}, "place.lat is missing"),
        ({"city": "Oslo", "who": []}, "who is [], which matches none of its schemas"),
        ({"city": "Oslo", "days": 2.0, "unit": "C", "at": None, "tags": [], "who": 1}, ""),
        ({"city": "", "place": {"lat": 1}}, ""),
    ],
)
def test_arguments_fit_the_schema_or_the_first_mistake_is_named(arguments, mistake):
    assert unfit(call(**arguments), tool()) == mistake


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"city": {"type": "str", "description": "xLAM"}},
        {"type": "object", "properties": {"a": {"type": "str, optional"}}},
        {"type": "object", "properties": {"b": {}}, "additionalProperties": True},
        {"type": "object", "properties": {"a": {"type": "string", "nullable": True}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}},
    ],
)
def test_a_schema_that_is_not_understood_finds_nothing(parameters):
    assert unfit(call(a=None), tool(parameters=parameters)) == ""


ASK, DONE = Message("user", "q"), Message("assistant", "a")


WEATHER = tool()


def kinds(*messages, tools=(WEATHER,)):
    return [kind for kind, _ in tool_findings(Conversation("a", messages, tools=tools))]


def calling(*calls):
    return Message("assistant", "", tool_calls=calls)


def test_each_mistake_of_calls_is_found_and_a_sound_row_has_none():
    good = call(city="Oslo", id="c1")
    result = Message("tool", "x", "weather", tool_call_id="c1")
    assert kinds(ASK, calling(good), result, DONE) == []
    assert kinds(ASK, calling(good)) == [], "a row may end with a call"
    assert kinds(ASK, calling(call("rain", id="c1")), result, DONE) == [
        "unknown tool",
        "other tool",
    ]
    assert kinds(ASK, calling(good), result, DONE, tools=()) == ["unknown tool"]
    assert kinds(ASK, calling(call(town="Oslo")), Message("tool", "x"), DONE) == ["bad arguments"]
    assert kinds(ASK, calling(good), DONE) == ["open call"]
    assert kinds(ASK, calling(good, call(city="Bergen", id="c2")), result, DONE) == ["open call"]
    assert kinds(ASK, calling(call(city="x")), Message("tool", "x", "rain"), DONE) == ["other tool"]


def test_thoughts_and_calls_are_counted():
    think = Message("assistant", "a", reasoning="t")
    rows = [
        Conversation(
            "a", (ASK, think, ASK, calling(call(city="x"))), source="f:1", tools=(tool(),)
        ),
        Conversation("b", (ASK, Message("assistant", "a", None, 0.0)), source="f:2"),
        Conversation("c", (Message("assistant", "once"),), source="f:3", plain=True),
    ]
    counted = ThoughtsAndCalls.of(rows)
    assert counted == ThoughtsAndCalls(2, 1, 1, 1, "f:1")
    assert list(counted.lines()) == [
        "thoughts in 1 of 2 answers; the first without one: f:1",
        "1 call, 1 tool",
    ]
    always = ThoughtsAndCalls.of([Conversation("a", (ASK, think))])
    assert list(always.lines()) == ["thoughts in 1 of 1 answers"]
    assert list(ThoughtsAndCalls.of(rows[1:]).lines()) == []


def test_check_and_convert_say_what_was_ignored_and_how_it_was_read(tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    row = {
        "messages": [
            {"role": "user", "content": "What is by the river, and what does it do?"},
            {
                "role": "assistant",
                "content": "<think>It is the mill.</think>An old mill stands by.",
            },
        ],
        "score": 3,
    }
    file.write_text(json.dumps(row))
    said = [
        "ignored keys of the data (rows): score (1)",
        "<think> … </think> in an answer's text is its thought (1 row)",
    ]
    assert main(["data", "check", str(file), "--cases", *_no_case(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *said,
        "thoughts in 1 of 1 answers",
        "1 conversation, 0 findings",
    ]
    assert main(["data", "convert", str(file)]) == 0
    written = capsys.readouterr()
    assert written.err.splitlines()[:2] == said
    assert json.loads(written.out)["messages"][1] == {
        "role": "assistant",
        "content": "An old mill stands by.",
        "reasoning_content": "It is the mill.",
    }
    assert main(["data", "check", str(file), "--json", "--cases", *_no_case(tmp_path)]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["ignored_keys"] == {"score": 1} and table["thoughts"] == 1
    assert list(table["readings"].values()) == [1] and table["findings"] == []


def _no_case(tmp_path):
    case = {"id": "x", "messages": [{"role": "user", "content": "Why?"}], "reference": "So."}
    (tmp_path / "case").mkdir(exist_ok=True)
    (tmp_path / "case" / "c.jsonl").write_text(json.dumps(case))
    return [str(tmp_path / "case")]
