"""Probe conversations, and what a kept template writes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from harness.conversation import Message, Tool, ToolCall
from harness.formats.guard import TemplateFaultError, check_template
from harness.formats.kept.kept_render import KeptRendering, own_words, render_kept
from harness.formats.turns import BOS, EOS, Renderer
from harness.records import Format, KeptTemplate

#: Two dates at which a template that writes one is rendered.
DATES = (datetime(2025, 2, 3, 4, 5, 6), datetime(2026, 11, 29, 16, 17, 18))

U1, A1, U2, A2 = (
    Message("user", "first question"),
    Message("assistant", "first answer"),
    Message("user", "second question"),
    Message("assistant", "second answer"),
)
SYSTEM, DEVELOPER = Message("system", "the rules"), Message("developer", "the wishes")
T1 = replace(A1, reasoning="first thought")
T2 = replace(A2, reasoning="second thought")
CALL = replace(A1, content="", tool_calls=(ToolCall("look_up", '{"word": "tree"}', "call12345"),))
RESULT = Message("tool", "the result", name="look_up", tool_call_id="call12345")
TOOL = Tool(
    '{"type": "function", "function": {"name": "look_up", "description": "Look a word up", '
    '"parameters": {"type": "object", "properties": {"word": {"type": "string", "description": '
    '"The word"}}, "required": ["word"]}}}'
)


class Prober:
    """Renders probes of one template."""

    def __init__(self, template: str, where: str, variables: Mapping[str, Any]) -> None:
        self.format = Format("kept", "kept", template, (), "", path=where, variables=variables)
        self.format = replace(self.format, kept=KeptTemplate())
        self.tools: tuple[Tool, ...] = ()
        self.reason = ""

    def render(
        self, *messages: Message, prompt: bool = False, plain: bool = False, tools: bool = False
    ) -> KeptRendering | None:
        """None if the template refuses or cannot be traced; ``reason`` says why."""
        try:
            return render_kept(
                self.format,
                messages,
                (TOOL,) if tools else self.tools,
                add_generation_prompt=prompt,
                bos_token=BOS,
                eos_token=EOS,
                plain=plain,
            )
        except TemplateFaultError as fault:
            self.reason = own_words(fault)
            return None


def template_renderer(template: str, where: str) -> Renderer:
    """A chat template as a function from messages to text, or to None if it refuses them.

    A template that accepts content only as parts gets parts. Raises HarnessError for one that does
    not compile or does harm (harness.formats.guard), and so does the function.
    """
    check_template(template, where)
    prober = Prober(template, where, {})
    if not (exchange := prober.render(U1, A1)) or not carries(exchange, (U1, A1)):
        parts = Prober(template, where, {})
        parts.format = replace(parts.format, kept=KeptTemplate(content="parts"))
        if carries(parts.render(U1, A1), (U1, A1)):
            prober = parts

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        done = prober.render(*messages, prompt=add_generation_prompt, plain=True)
        return None if done is None else done.text

    return render


def written(rendering: KeptRendering, message: int, kind: str = "content") -> str:
    """The text that was written for a message."""
    return "".join(
        rendering.text[s.start : s.end]
        for s in rendering.spans
        if s.kind == kind and s.message == message
    )


def carries(rendering: KeptRendering | None, messages: Sequence[Message]) -> bool:
    """Whether each message's words are written once, unchanged; a result may be JSON text."""
    return rendering is not None and all(
        written(rendering, index).strip() in _forms(message)
        for index, message in enumerate(messages)
    )


def _forms(message: Message) -> tuple[str, ...]:
    words = message.content
    as_json = (json.dumps(words), json.dumps(words, ensure_ascii=False))
    return (words.strip(), *as_json) if message.role == "tool" else (words.strip(),)
