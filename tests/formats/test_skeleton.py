"""A skeleton renders as the template does, and templates that read their messages have none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format, thoughts_apart
from harness.formats.frontmatter import parse_format
from harness.formats.render import render
from harness.formats.skeleton import skeleton_of
from harness.formats.tracing import Shape, trace
from tests.formats.test_render import EXAMPLES, conversations

FORMATS = load_formats()
SHAPE = Shape(("user", "assistant"), (None, None), False, "<s>", "</s>", "Assistant", "User")


@given(conversations(), st.sampled_from(list(FORMATS)), st.booleans())
@settings(max_examples=EXAMPLES)
def test_skeleton_and_template_agree_on_text_and_spans(conversation, format_id, prompt):
    chat_format = FORMATS[format_id]
    conversation = thoughts_apart(adapt_to_format(conversation, chat_format))
    if any(message.reasoning is not None for message in conversation.messages):
        return  # a thought is no part of a shape
    shape = Shape(
        tuple(m.role for m in conversation.messages),
        tuple(m.name for m in conversation.messages),
        prompt,
        "<s>",
        "</s>",
        conversation.assistant_name() or "Assistant",
        next((m.name for m in conversation.messages if m.role == "user" and m.name), None)
        or "User",
    )
    short = render(
        conversation, chat_format, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>"
    )
    whole = trace(chat_format, shape, [m.content for m in conversation.messages])
    assert (short.text, short.spans, short.plain) == whole[:3]


def test_all_shipped_formats_have_a_skeleton():
    """Also those whose templates look for a think block, or whether a message is empty."""
    assert not [
        format_id
        for format_id, chat_format in FORMATS.items()
        if skeleton_of(chat_format, SHAPE) is None
    ]


def toy(tmp_path, body):
    source = '{#---\nfamily = "toy"\n---#}\n' + body
    return parse_format(source, tmp_path / "toy.jinja", trusted=True)


@pytest.mark.parametrize(
    "expression",
    [
        "m.content if m.content | length > 3 else '' + m.content",
        "m.content | upper",
        "m.content.replace('a', 'b')",
        "m.content | replace('a', 'b')",
        "[m.content] | map('replace', 'a', 'b') | join",
        "[m.content] | map('wordcount') | join",
        "([m.content] | map('int') | list)[0] ~ m.content",
        "m.content.split('a')[0]",
        "m.content[:4]",
        "m.content * 2",
        "m.content if m.content is lower else '' + m.content",
        "m.content if {m.content: 1} else ''",
        "m | tojson",
        "write(m) if write(m) == 'x' else write(m)",
    ],
)
def test_a_template_that_reads_its_messages_has_no_skeleton(tmp_path, expression):
    macro = "{% macro write(m) %}{{ m.content }}{% endmacro %}"
    chat_format = toy(
        tmp_path, macro + "{% for m in messages %}{{ " + expression + " }}{% endfor %}"
    )
    assert skeleton_of(chat_format, SHAPE) is None


@pytest.mark.parametrize(
    "condition",
    [
        "'x' in m.content",
        "m.content == 'xa'",
        "m.content != 'xa'",
        "m.content",
        "m.content | trim",
        "m.content.strip()",
        "m.content.startswith('x')",
        "m.content.endswith('x')",
        "m.content in ['xa', 'ax']",
        "m.content.strip('x') == 'a'",
        "m.content.lstrip().startswith('x')",
    ],
)
@pytest.mark.parametrize("words", ["xa", "ax", "b", " ", " x", "x b "])
def test_a_question_is_asked_of_the_words_again(tmp_path, condition, words):
    """With words that answer otherwise than the probe, the template itself is run."""
    chat_format = toy(
        tmp_path,
        "{% for m in messages %}{{ '<yes>' if " + condition + " else '<no>' }}{{ m.content }}"
        "{% endfor %}",
    )
    conversation = Conversation("c", (Message("user", words), Message("assistant", "b")))
    short = render(conversation, chat_format, bos_token="<s>", eos_token="</s>")
    assert (short.text, short.spans, short.plain) == trace(chat_format, SHAPE, [words, "b"])[:3]
    assert skeleton_of(chat_format, SHAPE) is not None
    plain = Conversation("c", (Message("user", "bc"), Message("assistant", "b")))
    assert skeleton_of(chat_format, SHAPE).fill([m.content for m in plain.messages])


def test_a_macro_that_writes_no_message_keeps_the_skeleton(tmp_path):
    chat_format = toy(
        tmp_path,
        "{% macro head(role) %}<{{ role }}>{% endmacro %}"
        "{% for m in messages %}{{ head(m.role) | trim }}{{ m.content }}{% endfor %}",
    )
    assert skeleton_of(chat_format, SHAPE) is not None


def test_a_refusal_names_its_place():
    conversation = Conversation(
        "c", (Message("system", "rules"), Message("user", "hi")), source="f.jsonl:3"
    )
    with pytest.raises(HarnessError, match=r"f\.jsonl:3: format gemma cannot render"):
        render(conversation, FORMATS["gemma"])
