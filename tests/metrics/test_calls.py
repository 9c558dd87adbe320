"""Calls of tools: valid, exact, needless; and the answer that uses a result."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.conversation import ParsedAnswer, ToolCall
from harness.evaluation.cases.case_files import parse_case
from harness.metrics.calls import called
from harness.metrics.checks import parse_check, passes
from harness.metrics.expected_calls import expected_calls, same_json, why_not_exact
from harness.metrics.registry import AnswerItem
from harness.records import Check, Format

WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
OSLO = [{"name": "weather", "arguments": {"city": "Oslo"}}]


def case(*checks, **rest):
    row = {
        "id": "c",
        "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
        "tools": [WEATHER, CLOCK],
        "checks": list(checks),
        **rest,
    }
    return parse_case(row, "cases.jsonl:1")


def scores(of, answer: ParsedAnswer, finish="stop"):
    chat_format = Format("f", "f", "", (), "")
    text = answer.content
    found = called(AnswerItem(of, chat_format, text, finish, (), (), (), None, parsed=answer))
    return {name: value[0] if isinstance(value, tuple) else value for name, value in found.items()}


def calls(*pairs):
    return tuple(ToolCall(name, json.dumps(arguments)) for name, arguments in pairs)


RIGHT = ("weather", {"city": "Oslo"})


@pytest.mark.parametrize(
    ("answer", "valid", "exact"),
    [
        (ParsedAnswer("", None, calls(RIGHT)), 1, 1),
        (ParsedAnswer("I will look.", "Which tool?", calls(RIGHT)), 1, 1),
        (ParsedAnswer("", None, calls(("weather", {"city": "oslo"}))), 1, 0),
        (ParsedAnswer("", None, calls(("weather", {}))), 1, 0),
        (ParsedAnswer("", None, calls(RIGHT, RIGHT)), 1, 0),
        (ParsedAnswer("", None, calls(("clock", {}))), 1, 0),
        (ParsedAnswer("", None, calls(("forecast", {"city": "Oslo"}))), 0, 0),
        (ParsedAnswer("", None, calls(RIGHT, ("forecast", {}))), 0, 0),
        (ParsedAnswer("", None, calls(RIGHT), malformed=("{",)), 0, 0),
        (ParsedAnswer("", None, calls(RIGHT), unclosed=True), 0, 0),
        (ParsedAnswer("", None, (), malformed=('{"name": "weather"',)), 0, 0),
        (ParsedAnswer('weather(city="Oslo")'), 0, 0),
        (ParsedAnswer(""), 0, 0),
    ],
)
def test_a_call_is_valid_and_exact(answer, valid, exact):
    found = scores(case({"calls": OSLO}), answer)
    assert found == {"call_valid": valid, "call_exact": exact, "call_when_none": None}


def test_an_answer_without_a_parsed_one_holds_no_call():
    item = AnswerItem(
        case({"calls": OSLO}), Format("f", "f", "", (), ""), "Rain.", "stop", (), (), (), None
    )
    assert called(item)["call_valid"] == (0.0, "no call")


@pytest.mark.parametrize(
    ("answer", "needless"),
    [
        (ParsedAnswer("Hello!"), 0),
        (ParsedAnswer("Hello!", "No tool fits."), 0),
        (ParsedAnswer("", None, calls(RIGHT)), 1),
        (ParsedAnswer("Let me see.", None, (), malformed=("{",)), 1),
    ],
)
def test_a_call_where_none_is_right(answer, needless):
    found = scores(case({"no_call": True}), answer)
    assert found == {"call_valid": None, "call_exact": None, "call_when_none": needless}


def test_the_words_after_a_result_are_judged_where_there_is_no_call():
    of = case({"no_call": True}, {"number": 18})
    assert scores(of, ParsedAnswer("It is 18 degrees."))["tool_answer"] == 1
    assert scores(of, ParsedAnswer("It is 17 degrees."))["tool_answer"] == 0
    again = ParsedAnswer("18", None, calls(RIGHT))
    assert scores(of, again)["tool_answer"] == 0 and scores(of, again)["call_when_none"] == 1


def test_nothing_is_scored_after_an_error():
    found = scores(case({"calls": OSLO}), ParsedAnswer(""), finish="error")
    assert set(found.values()) == {None}


def test_parallel_calls_may_come_in_any_order_and_each_once():
    both = expected_calls([*OSLO, {"name": "weather", "arguments": {"city": "Rome"}}])
    rome = ("weather", {"city": "Rome"})
    assert why_not_exact(calls(rome, RIGHT), both) == ""
    assert "missing: a call of weather" in why_not_exact(calls(RIGHT), both)
    assert "not expected" in why_not_exact(calls(RIGHT, RIGHT), both)
    assert "not expected" in why_not_exact(calls(RIGHT, rome, rome), both)


def test_several_arguments_may_be_right():
    either = expected_calls([{"name": "weather", "arguments": [{"city": "Oslo"}, {"city": "O."}]}])
    assert why_not_exact(calls(("weather", {"city": "O."})), either) == ""
    assert why_not_exact(calls(("weather", {"city": "Oslo", "unit": "C"})), either)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (0, None, False),
        ("a", "A", False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ({"a": 1, "b": [True]}, {"b": [True], "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, False),
    ],
)
def test_values_are_equal_as_json(one, other, same):
    assert same_json(one, other) == same_json(other, one) == same


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_every_call_accepts_itself_however_its_keys_are_ordered(arguments):
    [expected] = expected_calls([{"name": "f", "arguments": arguments}])
    turned = dict(reversed(arguments.items()))
    assert expected.accepts(ToolCall("f", json.dumps(turned)))
    assert not expected.accepts(ToolCall("g", json.dumps(turned)))
    assert not expected.accepts(ToolCall("f", json.dumps({**arguments, "one more": 1})))


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"name": "f"},
        [{"arguments": {}}],
        [{"name": ""}],
        [{"name": "f", "arguments": "{}"}],
        [{"name": "f", "arguments": []}],
        [{"name": "f", "arguments": [[]]}],
        [{"name": "f", "args": {}}],
        True,
    ],
)
def test_a_wrong_value_of_calls_is_refused(value):
    with pytest.raises(ValueError, match="takes a list of calls"):
        parse_check({"calls": value})


def test_no_call_takes_true_and_calls_are_in_no_text():
    with pytest.raises(ValueError, match="takes true"):
        parse_check({"no_call": False})
    with pytest.raises(ValueError, match="unknown check"):
        passes(Check("no_call", True), "text")
