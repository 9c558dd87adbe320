"""Text and spans are made together and lose nothing, whatever the messages contain."""

from __future__ import annotations

import os
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.adapt import thoughts_apart
from harness.formats.frontmatter import parse_format
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from harness.records import Format

FORMATS = load_formats()
#: HYPOTHESIS_EXAMPLES=10000 is the long run that docs/log.md speaks of.
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "500"))
CONTROL = [
    "<|im_end|>",
    "</s>",
    "[/INST]",
    "{{ bos_token }}",
    "{% endgeneration %}",
    "### Response:",
    "\nUSER:",
    "\ufdd0",
    "\ufdd3",
    "\ufdd1",
    "{0}",
    "%s",
    "\x00",
    "\ud800",
    "<think>",
    "</think>",
]

contents = st.lists(st.one_of(st.sampled_from(CONTROL), st.text(max_size=12)), max_size=5).map(
    "".join
)
names = st.one_of(st.none(), st.sampled_from(["Mira", "Dov"]))


@st.composite
def conversations(draw) -> Conversation:
    system = [Message("system", draw(contents))] if draw(st.booleans()) else []
    turns = []
    for _ in range(draw(st.integers(1, 3))):
        turns += [
            Message("user", draw(contents), draw(names)),
            Message("assistant", draw(contents), draw(names)),
        ]
    return Conversation("c", tuple(system + turns))


def fitting(conversation: Conversation, chat_format: Format) -> Conversation:
    """The conversation without the system prompt that the format's owner refuses."""
    if chat_format.system != "unsupported":
        return conversation
    return Conversation(
        conversation.id, tuple(m for m in conversation.messages if m.role != "system")
    )


@given(conversations(), st.sampled_from(list(FORMATS)))
@settings(max_examples=2 * EXAMPLES)
def test_nothing_is_lost_and_only_answers_are_trained(conversation, format_id):
    conversation = fitting(conversation, FORMATS[format_id])
    rendered = render(conversation, FORMATS[format_id], bos_token="<s>", eos_token="</s>")
    if FORMATS[format_id].reasoning != "none":  # as render does, thoughts on or off
        conversation = thoughts_apart(conversation)
    assert "".join(rendered.text[s.start : s.end] for s in rendered.spans) == rendered.text
    for index, message in enumerate(conversation.messages):
        shown = "".join(
            rendered.text[s.start : s.end]
            for s in rendered.spans
            if s.kind == "content" and s.message == index
        )
        assert shown.strip() == message.content.strip()
    for span in rendered.spans:
        if span.trained:
            assert span.kind in ("content", "stop", "eos", "glue", "reasoning")
            if span.kind == "content":
                assert conversation.messages[span.message].role == "assistant"
    assert rendered == render(conversation, FORMATS[format_id], bos_token="<s>", eos_token="</s>")


@given(conversations(), st.sampled_from(list(FORMATS)))
@settings(max_examples=EXAMPLES)
def test_the_prompt_is_a_prefix_of_what_is_trained(conversation, format_id):
    """Whatever the earlier answers were, inference sends what training showed."""
    *context, answer = fitting(conversation, FORMATS[format_id]).messages
    whole = render(
        Conversation("c", (*context, answer)), FORMATS[format_id], bos_token="<s>", eos_token="</s>"
    )
    prompt = render(
        Conversation("c", tuple(context)),
        FORMATS[format_id],
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
        assistant_name=answer.name or conversation.assistant_name(),
    )
    assert whole.text.startswith(prompt.text)
    first = next(
        (s.start for s in whole.spans if s.trained and s.start >= len(prompt.text)), len(whole.text)
    )
    assert first == len(prompt.text)


@pytest.mark.parametrize("format_id", list(FORMATS))
def test_transformers_renders_the_same_file_to_the_same_text(format_id, tokenizer):
    """The very file is a Hugging Face chat template, and its generation mask is ours."""
    turns = (
        Message("system", "rules"),
        Message("user", " q1 "),
        Message("assistant", "a1"),
        Message("user", "q2"),
        Message("assistant", "a2"),
    )
    messages = list(fitting(Conversation("c", turns), FORMATS[format_id]).messages)
    plain = [{"role": m.role, "content": m.content} for m in messages]
    ours = render(
        Conversation("c", tuple(messages)),
        FORMATS[format_id],
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
    )
    assert (
        undated(
            tokenizer.apply_chat_template(
                plain, chat_template=FORMATS[format_id].template, tokenize=False
            )
        )
        == ours.text
    )
    prompt = render(
        Conversation("c", tuple(messages[:-1])),
        FORMATS[format_id],
        add_generation_prompt=True,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
    )
    asked = tokenizer.apply_chat_template(
        plain[:-1],
        chat_template=FORMATS[format_id].template,
        tokenize=False,
        add_generation_prompt=True,
    )
    assert undated(asked) == prompt.text


def undated(text: str) -> str:
    """transformers' clock runs, ours is frozen."""
    for form in ("%Y-%m-%d", "%B %d, %Y", "%d %B %Y", "%d %b %Y"):
        text = text.replace(datetime.now().strftime(form), FROZEN_NOW.strftime(form))
    return text


def test_an_unfinished_answer_is_left_open():
    said = Conversation(
        "c", (Message("user", "capital of France?"), Message("assistant", "It is "))
    )
    rendered = render(said, FORMATS["chatml"], continue_final_message=True)
    assert rendered.text.endswith("<|im_start|>assistant\nIt is ")
    assert rendered.spans[-1].end == len(rendered.text)
    with pytest.raises(HarnessError, match="last message is user"):
        render(Conversation("c", said.messages[:1]), FORMATS["chatml"], continue_final_message=True)
    with pytest.raises(HarnessError, match="exclude each other"):
        render(said, FORMATS["chatml"], continue_final_message=True, add_generation_prompt=True)


def toy(template: str, tmp_path, **facts):
    lines = "".join(f"{key} = {value!r}\n" for key, value in {"family": "toy", **facts}.items())
    return parse_format("{#---\n" + lines + "---#}\n" + template, tmp_path / "toy.jinja")


def test_a_dropped_message_is_an_error_that_names_it(tmp_path):
    chat_format = toy(
        "{% for m in messages if m.role != 'system' %}{{ m.content }}\n{% endfor %}", tmp_path
    )
    with pytest.raises(HarnessError, match=r"toy drops message 0 \(system\)"):
        render(Conversation("c", (Message("system", "rules"), Message("user", "hi"))), chat_format)


def test_a_changed_message_is_an_error(tmp_path):
    chat_format = toy("{% for m in messages %}{{ m.content[:2] }}{% endfor %}", tmp_path)
    with pytest.raises(HarnessError, match="changes message 0"):
        render(Conversation("c", (Message("user", "hello"),)), chat_format)


def test_a_template_cannot_reach_the_interpreter(tmp_path):
    chat_format = toy(
        "{{ ''.__class__.__mro__ }}{% for m in messages %}{{ m.content }}{% endfor %}", tmp_path
    )
    with pytest.raises(HarnessError, match="refused: it tries to reach the interpreter"):
        render(Conversation("c", (Message("user", "hello"),)), chat_format)


def test_an_undefined_name_is_an_error(tmp_path):
    chat_format = toy(
        "{{ nothing_here }}{% for m in messages %}{{ m.content }}{% endfor %}", tmp_path
    )
    with pytest.raises(HarnessError, match="nothing_here"):
        render(Conversation("c", (Message("user", "hello"),)), chat_format)


def test_stops_of_a_format_with_names_carry_the_name():
    conversation = Conversation(
        "c",
        (
            Message("user", "hi", "Dov"),
            Message("assistant", "yes", "Mira"),
            Message("user", "and?", "Dov"),
        ),
    )
    rendered = render(conversation, FORMATS["roleplay-names"], add_generation_prompt=True)
    assert rendered.stops == ("\nDov:",)
    assert rendered.text.endswith("\nDov: and?\nMira:")


def test_two_characters_and_a_narrator():
    """Whoever answers is stopped at everybody else's name, and each hand-over is trained."""
    turns = (
        Message("system", "A harbour at night."),
        Message("user", "Who is there?", "Dov"),
        Message("assistant", "Only me.", "Mira"),
        Message("assistant", "The lamp goes out.", "Narrator"),
        Message("user", "{{char}}, {{user}} and {name}: light it!", "Dov"),
        Message("assistant", "Done.", "Mira"),
    )
    whole = render(Conversation("c", turns), FORMATS["roleplay-names"], eos_token="</s>")
    assert whole.text.endswith(
        "Dov: Who is there?\nMira: Only me.\nNarrator: The lamp goes out.\n"
        "Dov: {{char}}, {{user}} and {name}: light it!\nMira: Done.</s>"
    )
    assert [
        whole.text[s.start : s.end]
        for s in whole.spans
        if s.trained and s.kind != "content" and s.message == 2
    ] == [" ", "\nNarrator:"]
    assert whole.stops == ("\nDov:", "\nNarrator:")
    for cut, name, stops in (
        (3, "Narrator", ("\nDov:", "\nMira:")),
        (5, "Mira", ("\nDov:", "\nNarrator:")),
    ):
        prompt = render(
            Conversation("c", turns[:cut]),
            FORMATS["roleplay-names"],
            add_generation_prompt=True,
            assistant_name=name,
        )
        assert whole.text.startswith(prompt.text) and prompt.text.endswith(f"\n{name}:")
        assert prompt.stops == stops


@pytest.mark.parametrize(
    "format_id", sorted(format_id for format_id in FORMATS if FORMATS[format_id].names != "none")
)
@pytest.mark.parametrize(
    "words", ["{{char}}", "{{user}}: <START>", "{{ name }}", "<|im_start|>[Mira]"]
)
def test_placeholders_of_front_ends_stay_text(format_id, words):
    conversation = Conversation(
        "c", (Message("user", words, "Dov"), Message("assistant", words, "Mira"))
    )
    shown = render(conversation, FORMATS[format_id], eos_token="</s>")
    assert [shown.text[s.start : s.end] for s in shown.spans if s.kind == "content"] == [
        words,
        words,
    ]
