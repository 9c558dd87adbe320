"""What exported templates make of the messages that clients send: nulls, parts, tools, thoughts.

All shapes of the corpus by some formats; tox -e corpus takes all formats, transformers' own
function and llama.cpp's engine.
"""

from __future__ import annotations

import copy
import re
from functools import lru_cache

import pytest

from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format
from harness.formats.exchange.exporting import export_format
from harness.formats.foreign import render_foreign
from harness.formats.render import render
from harness.formats.tracing import REFUSALS
from tests.corpus.shapes import BOAT, FIRST, SHAPES, Shape, a, call, parts, s, u
from tests.corpus.survey import conversation

FORMATS = load_formats()
#: One of each way to treat a system prompt, names, thoughts, calls, a date.
_NAMES = """
chatml qwen3 qwen3:enable_thinking=false deepseek-r1 gemma gemma3 llama2-chat mistral-v3
chatml-names roleplay-markdown alpaca-input raw harmony yandexgpt codellama-70b
"""
SAMPLE = _NAMES.split()
#: Where Python's own spelling of a value is written; the shapes write none of it.
PYTHON = re.compile(r"\bNone\b|\bTrue\b|\bFalse\b|\[\{'|\{'\w+':")


@lru_cache(maxsize=64)
def _template(name):
    return export_format(FORMATS[name], "hf").text


def _exported(name, messages, tools=(), generation=False):
    """The text by the exported template, or the words in which it refuses."""
    template = _template(name)
    try:
        return render_foreign(
            template,
            copy.deepcopy(list(messages)),
            add_generation_prompt=generation,
            tools=list(tools) or None,
            bos_token="<s>",
            eos_token="</s>",
        ), ""
    except REFUSALS as error:
        return None, str(error)


def _ours(name, shape):
    chat_format = FORMATS[name]
    try:
        adapted = adapt_to_format(conversation(shape), chat_format)
        return render(adapted, chat_format, bos_token="<s>", eos_token="</s>").text
    except HarnessError:
        return None


@pytest.mark.parametrize("name", SAMPLE)
def test_it_writes_what_our_renderer_writes(name):
    for shape in SHAPES:
        if shape.name == "thought-spelt-thinking":
            continue  # transformers renames it before the template gets it
        text, why = _exported(name, shape.messages, shape.tools)
        if "no place for arguments as text" not in why:  # they are taken apart
            assert text == _ours(name, shape), shape.name


@pytest.mark.parametrize("name", SAMPLE)
def test_no_value_is_written_as_python_writes_it(name):
    for shape in SHAPES:
        text, why = _exported(name, shape.messages, shape.tools)
        if shape.name != "python-words":
            assert text is None or not PYTHON.search(text), shape.name
        if text is None:
            assert re.search(
                r"no place for|can only stand first|writes (?:no words beside a|one) call", why
            ), (shape.name, why)


@pytest.mark.parametrize("name", SAMPLE)
def test_nulls_and_parts_are_read_and_pictures_refused(name):
    plain, _ = _exported(name, FIRST)
    assert plain and FIRST[0]["content"] in plain
    split = (u(parts("How tall ", "is the tower?")), a(parts(FIRST[1]["content"])))
    assert _exported(name, split)[0] == plain
    assert _exported(name, (FIRST[0], {**FIRST[1], "tool_calls": None, "name": None}))[0] == plain
    assert _exported(name, ({"role": "user"}, FIRST[1]))[0] == _exported(name, (u(""), FIRST[1]))[0]
    picture = u([{"type": "image_url", "image_url": {"url": "data:,"}}])
    assert "no place for pictures" in _exported(name, (picture,))[1]


@pytest.mark.parametrize("name", [name for name in SAMPLE if not FORMATS[name].calls])
def test_a_format_without_tools_says_so(name):
    shape = next(shape for shape in SHAPES if shape.name == "call")
    assert f"format {name} has no place for tools" in _exported(name, FIRST, shape.tools)[1]
    assert "no place for calls of tools" in _exported(name, shape.messages)[1]


def test_arguments_that_are_json_already_are_written_once():
    as_text = call("ferry_times", "abcde0001", '{"harbour": "Skagen"}')
    for name in SAMPLE:
        if FORMATS[name].calls and "| tojson" in FORMATS[name].template:
            wanted = _exported(name, (FIRST[0], a("", BOAT)))
            assert wanted[0] and _exported(name, (FIRST[0], a("", as_text))) == wanted


def test_a_system_prompt_that_the_owner_refuses_goes_into_the_question():
    text, _ = _exported("gemma", (s("Be kind."), *FIRST))
    assert text and "user\nBe kind.\n\nHow tall is the tower?<end_of_turn>" in text
    joined = ({"role": "developer", "content": "Be kind."}, s("And brief."), *FIRST)
    text, _ = _exported("chatml", joined)
    assert text and text.count("<|im_start|>system") == 1 and "Be kind.\n\nAnd brief." in text


def test_a_switch_that_is_set_is_the_default_of_the_exported_template():
    on, off = FORMATS["qwen3"], FORMATS["qwen3:enable_thinking=false"]
    asked = Shape("ask", "plain", FIRST[:1])
    text, _ = _exported(off.id, asked.messages, generation=True)
    assert text and text.endswith("<think>\n\n</think>\n\n")
    assert _exported(on.id, asked.messages, generation=True)[0] != text
