"""Thoughts: where they are asked for, where they are not, in what the reader sees, and in Chinese."""

from __future__ import annotations

import pytest

from harness.conversation import Message, ParsedAnswer
from harness.metrics.registry import AnswerItem
from harness.metrics.thoughts import leaked, thought
from harness.records import Case, Check, Format

ENGLISH = "The user asks for the capital of Norway, which is Oslo, so I will say that."
CHINESE = "用户问挪威的首都是哪里，答案是奥斯陆，我就这样回答。"


def scores(answer, thinking, prompt="What is the capital of Norway?", language="en", finish="stop"):
    case = Case(
        "c",
        (Message("user", prompt),),
        checks=(Check("says", "Oslo"),),
        expect_language=language,
    )
    found = thought(
        AnswerItem(
            case,
            Format("f", "f", "", (), ""),
            answer.content,
            finish,
            (),
            (),
            (),
            None,
            parsed=answer,
            thinking=thinking,
        )
    )
    return {name: value[0] if isinstance(value, tuple) else value for name, value in found.items()}


THOUGHT = ParsedAnswer("It is Oslo.", ENGLISH)
PLAIN = ParsedAnswer("It is Oslo.")
EMPTY = ParsedAnswer("It is Oslo.", "\n\n")


@pytest.mark.parametrize(
    ("answer", "thinking", "expected"),
    [
        (THOUGHT, True, {"thinks": 1, "thought_leak": 0, "thought_drift": 0}),
        (PLAIN, True, {"thinks": 0, "thought_leak": 0}),
        (EMPTY, True, {"thinks": 0, "thought_leak": 0}),
        (THOUGHT, False, {"thinks_when_off": 1, "thought_leak": 1}),
        (PLAIN, False, {"thinks_when_off": 0, "thought_leak": 0}),
        (EMPTY, False, {"thinks_when_off": 0, "thought_leak": 0}),
        (
            ParsedAnswer(f"<think>{ENGLISH}</think>"),
            False,
            {"thinks_when_off": 1, "thought_leak": 1},
        ),
        (THOUGHT, None, {"thought_leak": 1}),
        (PLAIN, None, {"thought_leak": 0}),
    ],
)
def test_a_thought_where_it_is_asked_for_and_where_not(answer, thinking, expected):
    assert scores(answer, thinking) == expected


def test_nothing_is_scored_after_an_error():
    assert scores(THOUGHT, True, finish="error") == {"thought_leak": None}


@pytest.mark.parametrize(
    "mark",
    [
        "<think>",
        "</think>",
        "<thinking>",
        "</Thought>",
        "<reasoning>",
        "[THINK]",
        "[/THINK]",
        "<seed:think>",
        "<|START_THINKING|>",
        "<|channel|>analysis",
        "<|channel>thought",
        "◁think▷",
        "<|begin_of_thought|>",
    ],
)
def test_each_mark_of_a_thought_is_found_in_what_the_reader_sees(mark):
    assert leaked(f"Oslo. {mark} Well.") == mark
    assert scores(ParsedAnswer(f"{mark} hm. Oslo.", ENGLISH), True)["thought_leak"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "I think it is Oslo.",
        "Write `<think>` before it.",
        "thinking: no mark",
        "<b>bold</b> and [Think] twice",
        "a < think > b",
        "",
    ],
)
def test_words_and_quoted_marks_are_no_leak(text):
    assert leaked(text) == ""


def test_a_mark_of_the_prompt_may_be_quoted():
    assert leaked("It means <think> here.", "What is <think>?") == ""
    assert leaked("It means </think> here.", "What is <think>?") == "</think>"


def test_a_thought_may_be_in_english_or_in_the_language_of_the_answer():
    chinese = ParsedAnswer("It is Oslo.", CHINESE)
    assert scores(chinese, True)["thought_drift"] == 1
    assert scores(ParsedAnswer("奥斯陆。", CHINESE), True, language="zh")["thought_drift"] == 0
    assert scores(ParsedAnswer("奥斯陆。", ENGLISH), True, language="zh")["thought_drift"] == 0
    short = scores(ParsedAnswer("It is Oslo.", "Hm."), True)
    assert short["thinks"] == 1 and short["thought_drift"] is None
