"""A skeleton renders as the template does, and templates that read their messages have none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.frontmatter import parse_format
from harness.formats.render import adapt_to_format, render
from harness.formats.skeleton import skeleton_of
from harness.formats.tracing import Shape, trace
from tests.formats.test_render import EXAMPLES, conversations

FORMATS = load_formats()
SHAPE = Shape(("user", "assistant"), (None, None), False, "<s>", "</s>", "Assistant", "User")


@given(conversations(), st.sampled_from(list(FORMATS)), st.booleans())
@settings(max_examples=EXAMPLES)
def test_skeleton_and_template_agree_on_text_and_spans(conversation, format_id, prompt):
    chat_format = FORMATS[format_id]
    conversation = adapt_to_format(conversation, chat_format)
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
    assert (short.text, short.spans, short.plain) == whole


#: They ask whether an answer has words, or describe tools by a macro.
READ_THE_WORDS = {
    "deepseek-r1",
    "gemma4",
    "glm4.5",
    "harmony",
    "hermes",
    "nemotron3",
    "qwen3",
    "qwen3-coder",
    "qwen3-thinking",
    "qwen3.5",
    "qwen3.6",
    "seed-oss",
    "smollm3",
}


def test_nearly_all_shipped_formats_have_a_skeleton():
    assert {
        format_id
        for format_id, chat_format in FORMATS.items()
        if skeleton_of(chat_format, SHAPE) is None
    } == READ_THE_WORDS


@pytest.mark.parametrize(
    "expression",
    [
        "m.content if 'x' in m.content else '' + m.content",
        "m.content if m.content == 'x' else '' + m.content",
        "m.content if m.content else '' + m.content",
        "m.content if m.content | length > 3 else '' + m.content",
        "m.content | upper",
        "m.content.replace('a', 'b')",
        "m.content.split('a')[0]",
        "m.content[:4]",
        "m.content.strip('x')",
        "m.content * 2",
        "m.content if m.content.startswith('x') else '' + m.content",
        "m.content if m.content is lower else '' + m.content",
        "m.content if m.content in ['x'] else '' + m.content",
        "m.content if {m.content: 1} else ''",
    ],
)
def test_a_template_that_reads_its_messages_has_no_skeleton(tmp_path, expression):
    source = (
        '{#---\nfamily = "toy"\n---#}\n{% for m in messages %}{{ ' + expression + " }}{% endfor %}"
    )
    assert skeleton_of(parse_format(source, tmp_path / "toy.jinja"), SHAPE) is None


def test_a_refusal_names_its_place():
    conversation = Conversation(
        "c", (Message("system", "rules"), Message("user", "hi")), source="f.jsonl:3"
    )
    with pytest.raises(HarnessError, match=r"f\.jsonl:3: format gemma cannot render"):
        render(conversation, FORMATS["gemma"])
