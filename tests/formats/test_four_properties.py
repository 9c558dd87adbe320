"""The specification of a rendering, for every shipped format and shape of conversation.

It equals transformers' text; the prompt of training is the prompt of inference; what is parsed is
what was rendered; and a conversation extends, or the format says that it does not.
``HYPOTHESIS_EXAMPLES=10000`` is the long run that docs/log.md speaks of.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format
from harness.formats.exchange.exporting import export_format
from harness.formats.parse import opened_by, parse_answer
from harness.formats.properties import check_format
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from harness.records import Format, Rendered
from tests.formats.conversation_shapes import conversations, plain_words, rows, words
from tests.formats.test_render import EXAMPLES

FORMATS = load_formats()
BOS, EOS = "<s>", "</s>"
RICH = [name for name, each in FORMATS.items() if each.thinks or each.calls]
SWITCHED = [
    f"{name}:{switch}={str(value).lower() if isinstance(value, bool) else value}"
    for name, each in FORMATS.items()
    for switch, values in each.switches.items()
    for value in values
]
#: Those with thoughts or calls are drawn as often as all others.
NAMES = st.one_of(st.sampled_from(list(FORMATS)), st.sampled_from(RICH + SWITCHED))


#: Some owners write one call in an answer, or no words before one, or only thoughts before one.
SHAPES = st.fixed_dictionaries(
    {
        "most_calls": st.integers(1, 2),
        "words_before_calls": st.booleans(),
        "thoughts": st.booleans(),
        "thoughts_before_calls": st.booleans(),
    }
)


def drawn(data: st.DataObject, chat_format: Format, texts=words, **shape) -> Conversation:
    """A conversation with what the format has a place for, and now and then thoughts it has not."""
    shape |= data.draw(SHAPES)
    conversation = data.draw(conversations(calls=chat_format.calls, texts=texts, **shape))
    if chat_format.names != "none":
        names = {"user": "Dov", "assistant": "Mira"}
        messages = [replace(m, name=names.get(m.role)) for m in conversation.messages]
        conversation = replace(conversation, messages=tuple(messages))
    if chat_format.system == "unsupported" and chat_format.names == "none":
        conversation = replace(conversation, messages=_without_two_systems(conversation))
    return adapt_to_format(conversation, chat_format)


def _without_two_systems(conversation: Conversation) -> tuple[Message, ...]:
    return tuple(m for m in conversation.messages if m.role != "developer")


def rendered(conversation: Conversation, chat_format: Format, *, prompt=False, name=None):
    return render(
        conversation,
        chat_format,
        add_generation_prompt=prompt,
        bos_token=BOS,
        eos_token=EOS,
        assistant_name=name,
    )


def accepted(conversation: Conversation, chat_format: Format) -> Rendered | None:
    """The rendering, or None where the owner refuses such a conversation or loses a part of it."""
    try:
        return rendered(conversation, chat_format)
    except HarnessError:
        return None


def drawn_whole(data: st.DataObject, format_id: str, texts=words):
    """Format, conversation and rendering; a conversation that is not accepted does not count."""
    chat_format = FORMATS[format_id]
    conversation = drawn(data, chat_format, texts)
    whole = accepted(conversation, chat_format)
    assume(whole is not None)
    return chat_format, conversation, whole


@cache
def stable(format_id: str, tools: bool) -> bool:
    """Whether the format says that a conversation, with or without tools, extends."""
    chat_format = FORMATS[format_id]
    if chat_format.reasoning in ("last-turn", "by-position"):
        return False
    said = check_format(chat_format).properties
    return bool(said["prefix_stable"]) and (not tools or bool(said["prefix_stable_with_tools"]))


@cache
def exported(format_id: str) -> str:
    return export_format(FORMATS[format_id], "hf").text


@pytest.mark.local
@given(st.data(), NAMES)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
def test_transformers_writes_the_same(data, format_id):
    from transformers.utils.chat_template_utils import render_jinja_template

    chat_format, conversation, ours = drawn_whole(data, format_id)
    texts, _ = render_jinja_template(
        [rows(conversation if chat_format.thinks else _thoughtless(conversation))],
        tools=[tool.as_object() for tool in conversation.tools] or None,
        chat_template=exported(format_id),
        bos_token=BOS,
        eos_token=EOS,
        assistant_name=conversation.assistant_name() or "Assistant",
        user_name="Dov" if chat_format.names != "none" else "User",
        **chat_format.variables,
    )
    assert undated(texts[0]) == ours.text


def _thoughtless(conversation: Conversation) -> Conversation:
    messages = tuple(replace(m, reasoning=None) for m in conversation.messages)
    return replace(conversation, messages=messages)


def undated(text: str) -> str:
    from datetime import datetime

    for how in ("%Y-%m-%d", "%d %b %Y", "%B %d, %Y", "%d %B %Y"):
        text = text.replace(datetime.now().strftime(how), FROZEN_NOW.strftime(how))
    return text


@given(st.data(), NAMES)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
def test_the_prompt_of_training_is_that_of_inference_and_the_answer_is_read_back(data, format_id):
    chat_format, conversation, whole = drawn_whole(data, format_id, plain_words)
    *context, answer = conversation.messages
    asked = replace(conversation, messages=tuple(context))
    prompt = rendered(asked, chat_format, prompt=True, name=conversation.assistant_name())
    assert whole.text.startswith(prompt.text)
    trained = [span for span in whole.spans if span.trained and span.start >= len(prompt.text)]
    assert trained and trained[0].start == len(prompt.text)
    assert any(span.kind in ("stop", "eos") for span in trained) or chat_format.names != "none"
    text = "".join(
        whole.text[span.start : span.end] for span in trained if span.kind not in ("eos", "stop")
    )
    opened = opened_by(prompt, chat_format)
    parsed = parse_answer(text, chat_format, opened=opened, tools=conversation.tools)
    last = len(conversation.messages) - 1
    assert parsed.content.strip() == answer.content.strip()
    thought = answer.reasoning.strip() if answer.reasoning else None
    assert parsed.reasoning == (None if last in whole.dropped else thought)
    assert [(call.name, call.values()) for call in parsed.tool_calls] == [
        (call.name, call.values()) for call in answer.tool_calls
    ]
    assert not parsed.malformed and not parsed.unclosed


@given(st.data(), NAMES)
@settings(
    max_examples=max(1, EXAMPLES // 2), suppress_health_check=list(HealthCheck), deadline=None
)
def test_a_conversation_extends_or_the_format_says_that_it_does_not(data, format_id):
    chat_format, conversation, whole = drawn_whole(data, format_id)
    if not stable(format_id, bool(conversation.tools)):
        return
    messages = conversation.messages
    for at, message in enumerate(messages):
        if message.role == "assistant":
            asked = replace(conversation, messages=messages[:at])
            prompt = rendered(asked, chat_format, prompt=True, name=conversation.assistant_name())
            assert whole.text.startswith(prompt.text)


@given(st.data(), NAMES)
@settings(
    max_examples=max(1, EXAMPLES // 2), suppress_health_check=list(HealthCheck), deadline=None
)
def test_only_what_the_assistant_writes_is_trained(data, format_id):
    """Thoughts, words and calls; never a result, a tool or a header."""
    _, conversation, whole = drawn_whole(data, format_id)
    for span in whole.spans:
        if span.trained:
            assert span.kind not in ("header", "bos")
            assert conversation.messages[span.message].role == "assistant"
        else:
            assert span.kind not in ("reasoning", "call"), whole.text[span.start : span.end]
    thoughts = {at for at, m in enumerate(conversation.messages) if (m.reasoning or "").strip()}
    shown = {span.message for span in whole.spans if span.kind == "reasoning"}
    assert thoughts == shown | set(whole.dropped) and not shown & set(whole.dropped)


@pytest.mark.parametrize("format_id", RICH)
def test_each_format_carries_what_it_says(format_id):
    """No property above holds only because the format refuses every conversation."""
    chat_format = FORMATS[format_id]
    seen: Counter[str] = Counter()

    @given(st.data())
    @settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
    def look(data):
        whole = accepted(drawn(data, chat_format, always=True), chat_format)
        seen.update({span.kind for span in whole.spans} if whole else ())

    look()
    assert bool(seen["reasoning"]) == chat_format.thinks
    assert bool(seen["call"]) == chat_format.calls


@given(conversations(), st.sampled_from([n for n, each in FORMATS.items() if not each.calls]))
@settings(max_examples=max(20, EXAMPLES // 5), suppress_health_check=list(HealthCheck))
def test_a_format_without_a_place_for_tools_says_so(conversation, format_id):
    chat_format = FORMATS[format_id]
    if conversation.tools:
        with pytest.raises(HarnessError, match=f"format {format_id} has no place for .*tools"):
            rendered(adapt_to_format(conversation, chat_format), chat_format)
