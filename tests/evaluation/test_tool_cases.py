"""The shipped cases with tools: what they expect fits their tools, and nothing else passes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.conversation import ParsedAnswer, ToolCall
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import (
    case_digest,
    kind_of,
    limit_cases,
    load_cases,
    parse_case,
)
from harness.gate.baseline import scored_digest
from harness.metrics.calls import called
from harness.metrics.registry import AnswerItem
from harness.records import CALL_CHECKS, Case, Format

CASES = load_cases(["tools"])
EXPECTING = [case for case in CASES if case.checks[0].kind == "calls"]
IN_WORDS = [case for case in CASES if len(case.checks) > 1]
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def scores(case: Case, answer: ParsedAnswer) -> dict[str, float | None]:
    item = AnswerItem(
        case, Format("f", "f", "", (), ""), answer.content, "stop", (), (), (), None, parsed=answer
    )
    return {
        name: value[0] if isinstance(value, tuple) else value
        for name, value in called(item).items()
    }


def right_calls(case: Case) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(call.name, call.arguments[0]) for call in case.checks[0].value)


def test_there_are_enough_of_each_kind():
    tags = Counter(tag for case in CASES for tag in case.tags)
    assert len(EXPECTING) >= 48 and len(CASES) - len(EXPECTING) >= 24
    for tag in ("one-tool", "several-tools", "arguments", "parallel", "no-tool-fits", "result"):
        assert tags[tag] >= 8, tag
    assert {kind_of(case) for case in CASES} == {"call"}


def fits(value, schema) -> bool:
    is_bool = isinstance(value, bool)
    if not isinstance(value, TYPES[schema["type"]]) or is_bool != (schema["type"] == "boolean"):
        return False
    if schema["type"] == "object":
        named = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(named) and all(
            fits(each, named[name]) for name, each in value.items()
        )
    if schema["type"] == "array":
        return all(fits(each, schema["items"]) for each in value)
    return value in schema.get("enum", [value])


@pytest.mark.parametrize("case", EXPECTING, ids=lambda case: case.id)
def test_what_is_expected_fits_the_tools_and_passes_alone(case):
    tools = {tool.name: tool.as_object()["function"]["parameters"] for tool in case.tools}
    for call in case.checks[0].value:
        for arguments in call.arguments:
            assert fits(json.loads(arguments), tools[call.name])
    right = right_calls(case)
    assert scores(case, ParsedAnswer("", None, right))["call_exact"] == 1
    assert scores(case, ParsedAnswer("", None, right[::-1]))["call_exact"] == 1


def attacks(case: Case):
    """What a model does that knows how to call and not what."""
    right = right_calls(case)
    yield ()
    yield right[1:]
    yield (*right, right[0])
    for tool in case.tools:
        yield (ToolCall(tool.name),)
        if tool.name != right[0].name:
            yield (ToolCall(tool.name, right[0].arguments), *right[1:])
    for name, value in right[0].values().items():
        for other in (None, "", 0, not value, [value], f"{value}!"):
            changed = json.dumps({**right[0].values(), name: other})
            yield (ToolCall(right[0].name, changed), *right[1:])


@pytest.mark.parametrize("case", EXPECTING, ids=lambda case: case.id)
def test_no_other_calls_pass(case):
    for calls in attacks(case):
        same = {(call.name, json.dumps(call.values())) for call in calls} == {
            (call.name, json.dumps(call.values())) for call in right_calls(case)
        }
        if not (same and len(calls) == len(right_calls(case))):
            assert scores(case, ParsedAnswer("", None, tuple(calls)))["call_exact"] == 0, calls


ANSWERS = {
    row["id"]: row
    for row in map(
        json.loads,
        (Path(__file__).parent / "tool_answers.jsonl").read_text(encoding="utf-8").splitlines(),
    )
}


def test_every_case_that_is_answered_in_words_has_right_and_wrong_ones():
    assert set(ANSWERS) == {case.id for case in IN_WORDS}


@pytest.mark.parametrize("case", IN_WORDS, ids=lambda case: case.id)
def test_right_words_pass_and_others_fail(case):
    asked = case.messages[0].content
    for text in ANSWERS[case.id]["right"]:
        assert scores(case, ParsedAnswer(text))["tool_answer"] == 1, text
    for text in (*ANSWERS[case.id]["wrong"], asked, "", "No.", "I don't know."):
        assert scores(case, ParsedAnswer(text))["tool_answer"] == 0, text
    call = ParsedAnswer(ANSWERS[case.id]["right"][0], None, (ToolCall(case.tools[0].name),))
    assert scores(case, call) == {
        "call_valid": None,
        "call_exact": None,
        "call_when_none": 1,
        "tool_answer": 0,
    }


ROW = {
    "id": "x",
    "messages": [{"role": "user", "content": "Weather?"}],
    "tools": [{"name": "weather"}],
    "checks": [{"no_call": True}],
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"checks": [{"says": "rain"}]}, "has one check of calls or no_call"),
        ({"tools": []}, "has one check of calls or no_call"),
        ({"checks": [*ROW["checks"], {"calls": [{"name": "weather"}]}]}, "has one check"),
        ({"checks": [{"calls": [{"name": "wether"}]}]}, "'wether' is none of the tools: weather"),
        ({"tools": [{"title": "weather"}]}, "tools.0.: a tool needs a name"),
        ({"tools": ["weather"]}, "tools.0.: not JSON"),
        ({"tools": [{"name": "a"}, {"name": "a"}]}, "two tools have the name 'a'"),
        ({"checks": [], "reference": "Rain."}, "has one check of calls or no_call"),
        ({"thinking": True}, "thinking is for cases with checks and without tools"),
        (
            {"messages": [*ROW["messages"], {"role": "assistant", "content": "Rain."}]},
            "end with the user's or with a tool's result",
        ),
    ],
)
def test_a_bad_case_with_tools_is_named_by_its_place(changed, message):
    with pytest.raises(HarnessError, match=message) as caught:
        parse_case({**ROW, **changed}, "cases.jsonl:7")
    assert "cases.jsonl:7" in str(caught.value)


def test_a_limit_of_a_kind_leaves_the_others_as_they_were():
    own = load_cases()
    assert limit_cases([*own, *CASES], 12)[:-12] == limit_cases(own, 12)


def test_a_digest_knows_the_tools_and_not_the_checks():
    case = parse_case(ROW, "p")
    other_tools = parse_case({**ROW, "tools": [{"name": "weather", "parameters": {}}]}, "p")
    other_checks = parse_case({**ROW, "checks": [{"calls": [{"name": "weather"}]}]}, "p")
    assert case_digest(case) != case_digest(other_tools)
    assert case_digest(case) == case_digest(other_checks)
    assert len({scored_digest(each) for each in (case, other_tools, other_checks)}) == 3


def test_a_digest_knows_whether_thinking_is_on():
    row = {"id": "x", "messages": ROW["messages"], "checks": [{"says": "rain"}]}
    cases = [parse_case({**row, "thinking": on}, "p") for on in (None, True, False)]
    assert len(set(map(case_digest, cases))) == len(set(map(scored_digest, cases))) == 3


def test_a_digest_is_what_it_was_before_there_were_tools():
    """Stored answers and baselines of cases without them stay good."""
    first = load_cases()[0]
    assert (case_digest(first), scored_digest(first)) == ("b77b1fa5e684ee18", "ea541d77")


def test_cases_with_thoughts_are_asked_on_and_off():
    thoughts = load_cases(["thoughts"])
    by_question = Counter((case.messages[0].content, case.thinking) for case in thoughts)
    assert len(by_question) == len(thoughts) >= 40
    assert Counter(case.thinking for case in thoughts) == {True: 30, False: 30}
    assert not any(check.kind in CALL_CHECKS for case in thoughts for check in case.checks)
