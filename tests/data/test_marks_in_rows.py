"""Control strings and rendered chats inside rows are found; ordinary texts are left alone."""

from __future__ import annotations

import pytest

from harness.conversation import Conversation, Message, ToolCall
from harness.data.chat_marks import ChatMarks
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render

FORMATS = load_formats()
MARKS = ChatMarks(tuple(FORMATS.values()))
CHAT = Conversation(
    "a",
    (
        Message("system", "Be brief."),
        Message("user", "Name a gem."),
        Message("assistant", "Opal."),
    ),
)
#: Their headers are words that people write, or one header alone: their text tells nothing.
SILENT = {
    *("raw", "chatglm2", "saiga", "monarch", "seed-oss", "wizardlm", "plain-qa", "phi2-qa"),
    *(
        "granite-code",
        "gigachat",
        "reka-edge",
        "roleplay-names",
        "roleplay-markdown",
        "codellama-70b",
    ),
}


def found(*texts, role="assistant", **rest):
    messages = tuple(Message(role, text, **rest) for text in texts)
    return list(MARKS.findings(Conversation("a", messages)))


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("Opal.<|im_end|>", "<|im_end|> (chatml and"),
        ("Mason bee.</s>", "</s> ("),
        ("[INST] Name a fish. ", "[INST] ("),
        ("<|im_start|>user\nName a fish.<|im_end|>", "<|im_start|>user ("),
        ("In C code, `</s>` ends it", "</s> ("),
        ("<s>Opal.</s>", "</s> ("),
        ("so <think> I must", "<think> (a mark of thoughts)"),
        ("<tool_call>{</tool_call>", "<tool_call> ("),
        ("[TOOL_CALLS][{}]", "[TOOL_CALLS] ("),
        ("<|channel|>final", "<|channel|> (harmony)"),
        ("yes<eos>", "<eos> (ends a text)"),
    ],
)
def test_a_control_string_is_named_with_its_formats(text, held):
    [(kind, sentence)] = found("Plain.", text)
    assert kind == "control string"
    assert sentence.startswith("messages[1] (assistant) holds ") and held in sentence


@pytest.mark.parametrize(
    "text",
    [
        "<p>Old: <s>10 kg</s> 12 kg</p>\n<table><tr><td>x</td></tr></table>",
        "# Title\n\n## Users and systems\n\n### Response times\n\n* **User:** the name\n> quote",
        "a <- b | c |> d <|> e; std::vector<int> v; x < y && y > z; A[i]; [1, 2]",
        "Q: How many?\nA: Nine.",
        "The user: a person. The assistant: a program.\nUser: is a word\nbefore a colon.",
        "```python\nprint('<b>' + s + '</b>')\n```",
        "<!-- a comment --> <svg:rect/> <my_tag/>",
    ],
)
def test_ordinary_texts_hold_none(text):
    assert found(text) == []


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - SILENT))
def test_a_chat_in_any_format_is_found_in_one_text(name):
    text = render(adapt_to_format(CHAT, FORMATS[name]), FORMATS[name], eos_token="</s>").text
    for plain in (False, True):
        chat = Conversation("a", (Message("assistant", text),), plain=plain)
        [(kind, sentence)] = MARKS.findings(chat)
        assert kind in ("rendered chat", "control string"), sentence
        assert ("text" if plain else "messages[0]") in sentence


def test_a_rendered_chat_is_named_with_its_format():
    texts = {
        "llama4": "<|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant"
        "<|header_end|>\n\nHello<|eot|>",
        "alpaca": "Below is an instruction.\n\n### Instruction:\nHi\n\n### Response:\nHello",
        "chatqa and 5 other formats": "User: Hi\nAssistant: Hello",
    }
    for name, text in texts.items():
        [(kind, sentence)] = found(text)
        assert kind == "rendered chat" and f"is a chat in {name}" in sentence, sentence


def test_a_question_without_its_answer_is_no_chat():
    assert found("### Instruction:\nSay hi.") == [] == found("User: Hi")
    assert found("### Response:\nHello\n\n### Instruction:\nSay hi.") == []


def test_thoughts_and_calls_are_searched_too():
    call = ToolCall("weigh", '{"of": "<|im_end|>"}')
    kinds = found("x", reasoning="a </think> b", tool_calls=(call,))
    assert [sentence.split(" holds ")[0] for _, sentence in kinds] == [
        "the thought of messages[0] (assistant)",
        "the call of weigh of messages[0] (assistant)",
    ]
