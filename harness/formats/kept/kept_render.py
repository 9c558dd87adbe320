"""Ask the limited process for a rendering of a kept template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from harness.conversation import Message, Tool
from harness.formats.guard import TemplateFaultError, trace_kept_guarded
from harness.formats.kept.kept_pieces import Answer
from harness.records import Format, KeptTemplate, Span

_NOW: ContextVar[datetime | None] = ContextVar("now", default=None)


@contextmanager
def frozen_clock(now: datetime) -> Iterator[None]:
    """Let every kept template that asks for the time see this one."""
    token = _NOW.set(now)
    try:
        yield
    finally:
        _NOW.reset(token)


@dataclass(frozen=True)
class KeptRendering:
    """The text of a conversation, its spans, and the answers in it."""

    text: str
    spans: tuple[Span, ...] = ()
    answers: tuple[Answer, ...] = ()


def render_kept(
    chat_format: Format,
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    *,
    add_generation_prompt: bool = False,
    bos_token: str = "",
    eos_token: str = "",
    plain: bool = False,
) -> KeptRendering:
    """What transformers writes, with spans; ``plain`` leaves them out.

    Raises HarnessError for a template that does harm, and TemplateFaultError for what the template
    raises; its name is Untraceable where an answer's beginning or end cannot be found.
    """
    way = chat_format.kept or KeptTemplate()
    request = {
        "template": chat_format.template,
        "messages": [_given(message) for message in messages],
        "tools": [tool.definition for tool in tools],
        "way": asdict(way),
        "variables": dict(chat_format.variables),
        "stops": list(chat_format.stops),
        "bos_token": bos_token,
        "eos_token": eos_token,
        "prompt": add_generation_prompt,
        "now": (_NOW.get() or datetime.now()).isoformat(),  # local time, as transformers' own
        "plain": plain,
    }
    reply = trace_kept_guarded(request, chat_format.path or chat_format.id)
    return KeptRendering(
        reply["text"],
        tuple(Span(*span) for span in reply.get("spans", ())),
        tuple(map(_answer, reply.get("answers", ()))),
    )


_OWN = ("TemplateRefusal", "TemplateError", "UndefinedError", "SecurityError", "LostCall")


def own_words(fault: TemplateFaultError) -> str:
    """Why a template refuses messages, in its words or those of the sandbox."""
    if fault.name == "Untraceable":
        return f"the loss mask cannot be found: {fault}"
    return str(fault) if fault.name in _OWN else f"{fault.name}: {fault}"


def _answer(fields: Sequence[Any]) -> Answer:
    message, start, stop, end, faults = fields
    return Answer(message, start, stop, end, tuple(faults))


def _given(message: Message) -> dict[str, Any]:
    thought = message.reasoning
    given: dict[str, Any] = {"role": message.role, "content": message.content}
    if thought is not None and thought.strip():
        given["reasoning"] = thought
    if message.tool_calls:
        given["calls"] = [[call.name, call.arguments, call.id] for call in message.tool_calls]
    for key in ("name", "tool_call_id"):
        if getattr(message, key):
            given[key] = getattr(message, key)
    return given
