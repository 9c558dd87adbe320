"""Answers are read back: thoughts, words and calls of every style, and what is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.conversation import AnswerMarks, CallMarks, Conversation, Message, Tool
from harness.formats import load_formats
from harness.formats.parse import opened_by, parse_answer
from harness.formats.render import render
from harness.records import Format
from tests.formats.test_render import EXAMPLES

FORMATS = load_formats()
THINK = AnswerMarks("<think>\n", "\n</think>")
HERMES = CallMarks("json", "<tool_call>\n", "\n</tool_call>")
STYLES = {
    "hermes": HERMES,
    "mistral": CallMarks("json", "[TOOL_CALLS]"),
    "llama": CallMarks("json", also_open="<|python_tag|>", arguments="parameters"),
    "mistral args": CallMarks("named-json", "[TOOL_CALLS]", separator="[ARGS]"),
    "kimi": CallMarks(
        "named-json",
        "<|tool_call_begin|>",
        "<|tool_call_end|>",
        section_open="<|tool_calls_section_begin|>",
        section_close="<|tool_calls_section_end|>",
        separator="<|tool_call_argument_begin|>",
        name_prefix="functions.",
        name_end=":",
    ),
    "deepseek": CallMarks(
        "named-json",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        "\n```<｜tool▁call▁end｜>",
        section_open="<｜tool▁calls▁begin｜>",
        section_close="<｜tool▁calls▁end｜>",
        separator="\n```json\n",
    ),
    "qwen coder": CallMarks(
        "parameters",
        "<tool_call>\n<function=",
        "</function>\n</tool_call>",
        separator=">\n",
        key_open="<parameter=",
        key_close=">\n",
        value_close="\n</parameter>",
    ),
    "glm": CallMarks(
        "parameters",
        "<tool_call>",
        "</tool_call>",
        key_open="<arg_key>",
        key_close="</arg_key>\n<arg_value>",
        value_close="</arg_value>",
    ),
    "minimax": CallMarks(
        "parameters",
        '<invoke name="',
        "</invoke>",
        section_open="<minimax:tool_call>",
        section_close="</minimax:tool_call>",
        separator='">',
        key_open='<parameter name="',
        key_close='">',
        value_close="</parameter>",
    ),
    "llama4": CallMarks("pythonic", close="<|python_end|>", also_open="<|python_start|>"),
    "lfm": CallMarks("pythonic", "<|tool_call_start|>", "<|tool_call_end|>"),
    "gemma4": CallMarks("quoted", "<|tool_call>call:", "<tool_call|>", quote='<|"|>'),
    "harmony": CallMarks("channels"),
}
#: One call of weather(city="Oslo", days=3), as each owner writes it.
WRITTEN = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}\n'
    "</tool_call>",
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}]',
    "llama": '{"name": "weather", "parameters": {"city": "Oslo", "days": 3}}',
    "mistral args": '[TOOL_CALLS]weather[ARGS]{"city": "Oslo", "days": 3}',
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
    '<|tool_call_argument_begin|>{"city": "Oslo", "days": 3}<|tool_call_end|>'
    "<|tool_calls_section_end|>",
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
    '```json\n{"city": "Oslo", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "qwen coder": "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n"
    "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    "glm": "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
    "minimax": '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Oslo'
    '</parameter>\n<parameter name="days">3</parameter>\n</invoke>\n</minimax:tool_call>',
    "llama4": '[weather(city="Oslo", days=3)]',
    "lfm": '<|tool_call_start|>[weather(city="Oslo", days=3)]<|tool_call_end|>',
    "gemma4": '<|tool_call>call:weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>',
    "harmony": "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
    '{"city": "Oslo", "days": 3}<|call|>',
}
#: The same, cut off or spoilt.
SPOILT = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": Oslo}}\n</tool_call>',
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": "Oslo"}]',
    "llama": '{"name": "weather", "parameters": {"city": Oslo}}',
    "mistral args": "[TOOL_CALLS]weather[ARGS]Oslo",
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
    "<|tool_call_argument_begin|>Oslo<|tool_call_end|><|tool_calls_section_end|>",
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
    "```json\n{\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "qwen coder": "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</function>\n"
    "</tool_call>",
    "glm": "<tool_call>weather\n<arg_key>city</arg_key>\nOslo\n</tool_call>",
    "minimax": '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Oslo\n'
    "</invoke>\n</minimax:tool_call>",
    "llama4": "<|python_start|>[weather(Oslo)]<|python_end|>",
    "lfm": "<|tool_call_start|>[weather(Oslo)]<|tool_call_end|>",
    "gemma4": "<|tool_call>call:weather{city:Oslo}<tool_call|>",
    "harmony": "<|channel|>commentary to=functions.weather<|message|>Oslo<|call|>",
}
BARE = ("llama", "llama4")


def toy(style: str) -> Format:
    return Format(
        "toy", "toy", "", ("<|im_end|>",), "", thought_marks=THINK, call_marks=STYLES[style]
    )


def calls_of(answer) -> list:
    return [(call.name, call.values()) for call in answer.tool_calls]


OSLO = ("weather", {"city": "Oslo", "days": 3})


@pytest.mark.parametrize("style", STYLES)
def test_a_call_is_read(style):
    answer = parse_answer(WRITTEN[style], toy(style))
    assert calls_of(answer) == [OSLO]
    assert (answer.content, answer.malformed, answer.unclosed) == ("", (), False)


@pytest.mark.parametrize("style", [style for style in STYLES if style != "harmony"])
def test_a_thought_words_and_a_call(style):
    words = "" if style in BARE else "I look it up."
    text = f"<think>\nWhere?\n</think>\n\n{words}\n{WRITTEN[style]}<|im_end|>"
    answer = parse_answer(text, toy(style))
    assert (answer.reasoning, answer.content) == ("Where?", words)
    assert calls_of(answer) == [OSLO] and not answer.malformed and not answer.unclosed


@pytest.mark.parametrize("style", SPOILT)
def test_what_is_no_call_is_malformed(style):
    answer = parse_answer(SPOILT[style], toy(style))
    assert not answer.tool_calls and len(answer.malformed) == 1, answer


@pytest.mark.parametrize("style", [style for style in STYLES if style not in ("llama", "harmony")])
def test_a_call_that_is_cut_off_is_not_taken_for_one(style):
    text = WRITTEN[style][: WRITTEN[style].index("Oslo") + 2]
    answer = parse_answer(text, toy(style))
    assert not answer.tool_calls
    assert answer.unclosed or style in (*BARE, "mistral", "mistral args")


@pytest.mark.parametrize("style", STYLES)
def test_an_answer_without_marks_is_left_as_it_is(style):
    text = " Oslo is cold:\n{'no': 'call'} [1] "
    answer = parse_answer(text, toy(style))
    assert (answer.content, answer.tool_calls, answer.malformed, answer.unclosed) == (
        text,
        (),
        (),
        False,
    )


def test_an_object_that_is_no_call_stays_an_answer():
    for text in ('{"name": "Ann", "age": 3}', '{"city": "Oslo"}', "[1, 2]"):
        assert parse_answer(text, toy("llama")).content == text
        assert not parse_answer(text, toy("llama")).malformed


def test_two_calls_in_one_section():
    text = WRITTEN["kimi"].replace(
        "<|tool_calls_section_end|>",
        "<|tool_call_begin|>functions.clock:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>",
    )
    assert calls_of(parse_answer(text, toy("kimi"))) == [OSLO, ("clock", {})]
    cut = text.removesuffix("<|tool_calls_section_end|>")
    assert parse_answer(cut, toy("kimi")).unclosed


def test_marks_inside_an_argument_end_nothing():
    arguments = {"text": "</tool_call> <tool_call> </think>"}
    text = "<tool_call>\n" + json.dumps({"name": "say", "arguments": arguments}) + "\n</tool_call>"
    assert calls_of(parse_answer(text, toy("hermes"))) == [("say", arguments)]


def test_the_schema_tells_a_text_from_a_number():
    tool = Tool(
        json.dumps(
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "parameters": {
                        "properties": {"city": {"type": "string"}, "days": {"type": "string"}}
                    },
                },
            }
        )
    )
    answer = parse_answer(WRITTEN["glm"], toy("glm"), tools=[tool])
    assert calls_of(answer) == [("weather", {"city": "Oslo", "days": "3"})]


def test_a_thought_that_the_prompt_has_opened():
    thinking = toy("hermes")
    answer = parse_answer("Hm.\n</think>\n\nYes.", thinking, opened="<think>\n")
    assert (answer.reasoning, answer.content, answer.unclosed) == ("Hm.", "Yes.", False)
    cut = parse_answer("Hm.", thinking, opened="<think>\n")
    assert (cut.reasoning, cut.content, cut.unclosed) == ("Hm.", "", True)
    empty = parse_answer("Yes.", thinking, opened="<think>\n\n</think>\n\n")
    assert (empty.reasoning, empty.content, empty.unclosed) == (None, "Yes.", False)
    theirs = parse_answer("Yes.", thinking, opened="<think>\nI do not think.\n</think>\n\n")
    assert (theirs.reasoning, theirs.content) == (None, "Yes.")


def test_what_a_prompt_has_opened_is_read_from_the_prompt():
    asked = Conversation("c", (Message("user", "What does <think> mean?"),))
    for name, opened in (
        ("qwen3", ""),
        ("qwen3:enable_thinking=false", "<think>\n\n</think>\n\n"),
        ("deepseek-r1", "<think>\n"),
        ("chatml", ""),
    ):
        prompt = render(asked, FORMATS[name], add_generation_prompt=True)
        assert opened_by(prompt, FORMATS[name]) == opened


PIECES = [
    "<think>",
    "</think>",
    *WRITTEN.values(),
    *(mark for each in STYLES.values() for mark in (each.open, each.close, each.key_open) if mark),
    "weather",
    '{"name": "weather", "arguments": ',
    "[f(a={1, 2})]",
    "[f(a=b'x', c=1j, d=...)]",
    "[f(a={[1]: 2})]",
    "<parameter=a>\n{[1]: 2}\n</parameter>",
    "<parameter=a>\n{1, (2,)}\n</parameter>",
    "{" * 3000,
    "[" * 3000,
    "NaN",
    "}",
    "\n",
]


@given(st.sampled_from(list(STYLES)), st.lists(st.one_of(st.sampled_from(PIECES), st.text())))
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_no_text_is_too_strange_to_be_read(style, parts):
    """Whatever a model writes, an answer comes of it, and its calls can be written as JSON."""
    answer = parse_answer("".join(parts), toy(style))
    for call in answer.tool_calls:
        assert isinstance(call.values(), dict)


NOT_JSON = ("{1, 2}", "b'x'", "1j", "...", "{[1]: 2}", "{[1]}")


@pytest.mark.parametrize("body", [f"[f(a={value})]" for value in NOT_JSON])
def test_a_value_that_json_has_not_is_no_call(body):
    answer = parse_answer(f"<|tool_call_start|>{body}<|tool_call_end|>", toy("lfm"))
    assert not answer.tool_calls and answer.malformed == (body,)


def test_a_value_that_python_has_not_is_text():
    """A list as a key, which Python itself refuses."""
    answer = parse_answer(WRITTEN["glm"].replace("Oslo", "{[1]: 2}"), toy("glm"))
    assert calls_of(answer) == [("weather", {"city": "{[1]: 2}", "days": 3})]


def test_channels():
    answer = parse_answer(
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>"
        "I look.<|end|><|start|>assistant to=functions.clock<|channel|>commentary json<|message|>"
        "{}<|call|>",
        toy("harmony"),
    )
    assert (answer.reasoning, answer.content, calls_of(answer)) == (
        "Hm.",
        "I look.",
        [("clock", {})],
    )
    final = parse_answer("<|channel|>final<|message|>Yes.<|return|>", toy("harmony"))
    assert (final.content, final.reasoning, final.unclosed) == ("Yes.", None, False)
    cut = parse_answer("<|channel|>analysis<|message|>Hm", toy("harmony"))
    assert (cut.reasoning, cut.content, cut.unclosed) == ("Hm", "", True)
