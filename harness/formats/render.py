"""Conversation × Format → Rendered: the one place where a text and its spans are made."""

from __future__ import annotations

import json
from dataclasses import replace

from jinja2 import TemplateError

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats.adapt import thoughts_apart
from harness.formats.guard import TemplateFaultError
from harness.formats.kept.kept_render import own_words, render_kept
from harness.formats.skeleton import skeleton_of
from harness.formats.tracing import REFUSALS, Extras, Shape, trace
from harness.formats.unmark import TracedText
from harness.records import Format, Rendered, Span

USER_NAME = "User"
ASSISTANT_NAME = "Assistant"


def render(
    conversation: Conversation,
    chat_format: Format,
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    bos_token: str = "",
    eos_token: str = "",
    assistant_name: str | None = None,
) -> Rendered:
    """Render a conversation in a format.

    ``add_generation_prompt`` ends the text where the assistant begins; ``continue_final_message``
    ends it with the last answer's words, without its stop, for the model to continue.
    ``assistant_name`` is who answers in a format with names; by default the last named assistant
    turn decides. Rendering loses nothing: HarnessError names the format and the message when the
    template refuses it, drops it or changes its words (outer white space may go, where the format's
    owner trims it).
    """
    if continue_final_message:
        _check_unfinished(conversation, add_generation_prompt)
    if chat_format.reasoning != "none":
        conversation = thoughts_apart(conversation)
    messages = conversation.messages
    more = _holds_more_than_words(conversation)
    extras = _extras(conversation, chat_format) if more else None
    shape = Shape(
        _roles(messages, chat_format),
        tuple([message.name for message in messages]),
        add_generation_prompt,
        bos_token,
        eos_token,
        assistant_name or conversation.assistant_name() or ASSISTANT_NAME,
        _user_name(conversation),
    )
    contents = [message.content for message in messages]
    filled = extras is None and chat_format.kept is None
    skeleton = skeleton_of(chat_format, shape) if filled else None
    text, spans, plain, _ = (skeleton and skeleton.fill(contents)) or _traced(
        conversation, chat_format, shape, contents, extras
    )
    if continue_final_message:
        text, spans = _without_the_end(text, spans)
    weights = tuple([message.weight for message in messages])
    return Rendered(
        text,
        spans,
        resolved_stops(chat_format, conversation, assistant_name),
        chat_format.id,
        weights if set(weights) != {1.0} else (),
        _dropped_thoughts(messages, spans) if more else (),
        plain=plain,
    )


def _roles(messages: tuple[Message, ...], chat_format: Format) -> tuple[str, ...]:
    """The roles as the format knows them: a developer is a system where it has none."""
    roles = tuple([message.role for message in messages])
    if "developer" in roles and "developer" not in chat_format.roles:
        return tuple(["system" if role == "developer" else role for role in roles])
    return roles


def _holds_more_than_words(conversation: Conversation) -> bool:
    """Whether there are thoughts, calls, results or tools. Most conversations have none."""
    return bool(
        conversation.tools
        or [
            True
            for message in conversation.messages
            if message.reasoning is not None or message.tool_calls or message.role == "tool"
        ]
    )


def _extras(conversation: Conversation, chat_format: Format) -> Extras | None:
    """Thoughts, calls and tools, or None where there are none or only thoughts without a place.

    Raises HarnessError where the format has no place for tools.
    """
    thinks = calls = results = False
    for message in conversation.messages:
        thinks |= message.reasoning is not None
        calls |= bool(message.tool_calls)
        results |= message.role == "tool"
    if not chat_format.calls and (calls or results or conversation.tools):
        kind = "calls of tools" if calls else "results of tools" if results else "tools"
        raise HarnessError(
            f"format {chat_format.id} has no place for {kind}",
            where=conversation.place,
            hint="see the column tools of: harness formats list",
        )
    thinks = thinks and chat_format.thinks
    if not (thinks or calls or results or conversation.tools):
        return None
    return Extras(
        [_thought(message) for message in conversation.messages] if thinks else (),
        [
            [(call.name, call.arguments, call.id) for call in message.tool_calls]
            for message in conversation.messages
        ]
        if calls
        else (),
        [message.tool_call_id for message in conversation.messages] if results else (),
        [tool.definition for tool in conversation.tools],
    )


def _thought(message: Message) -> str | None:
    """A message's thought, if it has one: an empty one is none."""
    return message.reasoning if (message.reasoning or "").strip() else None


def _dropped_thoughts(messages: tuple[Message, ...], spans: tuple[Span, ...]) -> tuple[int, ...]:
    thoughts = [index for index, message in enumerate(messages) if _thought(message)]
    if not thoughts:
        return ()
    shown = {span.message for span in spans if span.kind == "reasoning"}
    return tuple([index for index in thoughts if index not in shown])


def _traced(
    conversation: Conversation,
    chat_format: Format,
    shape: Shape,
    contents: list[str],
    extras: Extras | None,
) -> TracedText:
    """Run the template itself over the messages, and check that nothing is lost."""
    try:
        if chat_format.kept is None:
            traced = trace(chat_format, shape, contents, extras=extras)
        else:
            traced = _kept(conversation, chat_format, shape)
    except REFUSALS as error:
        reason = (
            f"{type(error).__name__}: {error}"
            if not isinstance(error, TemplateError)
            else str(error)
        )
        raise HarnessError(
            f"format {chat_format.id} cannot render this conversation: {reason}",
            where=conversation.place,
        ) from None
    _check_lossless(conversation, chat_format, traced.text, traced.spans)
    return traced


def _kept(conversation: Conversation, chat_format: Format, shape: Shape) -> TracedText:
    """Run a template that is kept as it is. Raises TemplateError with its own words."""
    messages = [
        message if message.role == role else replace(message, role="system")
        for message, role in zip(conversation.messages, shape.roles, strict=True)
    ]
    if not chat_format.thinks:
        messages = [replace(message, reasoning=None) for message in messages]
    try:
        rendering = render_kept(
            chat_format,
            messages,
            conversation.tools,
            add_generation_prompt=shape.add_generation_prompt,
            bos_token=shape.bos_token,
            eos_token=shape.eos_token,
        )
    except TemplateFaultError as fault:
        raise TemplateError(own_words(fault)) from None
    return TracedText(rendering.text, rendering.spans)


def resolved_stops(
    chat_format: Format, conversation: Conversation, assistant_name: str | None = None
) -> tuple[str, ...]:
    """The format's stops. One that holds ``{user_name}`` is repeated for each speaker who waits.

    These are all speakers but the one who answers: the user, other characters, a narrator.
    """
    if chat_format.names == "none":
        return chat_format.stops
    answering = assistant_name or conversation.assistant_name() or ASSISTANT_NAME
    defaults = {"user": USER_NAME, "assistant": ASSISTANT_NAME}
    speakers = [
        message.name or defaults[message.role]
        for message in conversation.messages
        if message.role in defaults
    ]
    others = [
        name for name in dict.fromkeys([_user_name(conversation), *speakers]) if name != answering
    ]
    stops = (
        stop.replace("{user_name}", name)
        for stop in chat_format.stops
        for name in (others if "{user_name}" in stop else ("",))
    )
    return tuple(dict.fromkeys(stops))


def _user_name(conversation: Conversation) -> str:
    return (
        next((m.name for m in conversation.messages if m.role == "user" and m.name), None)
        or USER_NAME
    )


def _check_unfinished(conversation: Conversation, add_generation_prompt: bool) -> None:
    last = conversation.messages[-1]
    where = conversation.place
    if add_generation_prompt:
        raise HarnessError(
            "a generation prompt and an unfinished last message exclude each other", where=where
        )
    if last.role != "assistant" or not last.content.strip():
        raise HarnessError(
            f"only an answer that has begun can be continued, and the last message is {last.role}",
            where=where,
            hint="use a generation prompt",
        )


def _without_the_end(text: str, spans: tuple[Span, ...]) -> tuple[str, tuple[Span, ...]]:
    """Cut the text behind the last message's words."""
    end = max(span.end for span in spans if span.kind == "content")
    return text[:end], tuple(span for span in spans if span.end <= end)


def _check_lossless(
    conversation: Conversation, chat_format: Format, text: str, spans: tuple[Span, ...]
) -> None:
    """Raise HarnessError where a message's words or its thought are not what was written.

    A thought may be missing by the rule of the format (``Rendered.dropped``). Calls are checked
    where they are traced (``LostCall``).
    """
    shown = {kind: [""] * len(conversation.messages) for kind in ("content", "reasoning")}
    for span in spans:
        if span.kind in shown and span.message >= 0:
            shown[span.kind][span.message] += text[span.start : span.end]
    for index, message in enumerate(conversation.messages):
        words = shown["content"][index].strip()
        if words != message.content.strip() and words not in _other_forms(message):
            fate = "changes" if words else "drops"
            raise HarnessError(
                f"format {chat_format.id} {fate} message {index} ({message.role})",
                where=conversation.place,
                hint="the format has no place for a system prompt"
                if message.role == "system"
                else "the template must write every message's content once",
            )
        thought = _thought(message)
        if thought and chat_format.thinks:
            _check_thought(conversation, chat_format, index, shown["reasoning"][index])


def _check_thought(conversation: Conversation, chat_format: Format, index: int, shown: str) -> None:
    """``shown`` is the thought with its marks, or nothing.

    Which thoughts a kept template drops is its owner's business: ``Rendered.dropped`` has them.
    """
    messages = conversation.messages
    asked = max((at for at, each in enumerate(messages) if each.role == "user"), default=-1)
    due = chat_format.kept is None and (
        chat_format.reasoning == "all-turns"
        or (chat_format.reasoning == "last-turn" and index > asked)
    )
    thought = messages[index].reasoning or ""
    if (due and not shown) or (shown and thought.strip() not in shown):
        raise HarnessError(
            f"format {chat_format.id} {'changes' if shown else 'drops'} the thought of message "
            f"{index}, though it says reasoning = {chat_format.reasoning!r}",
            where=conversation.place,
        )


def _other_forms(message: Message) -> tuple[str, ...]:
    """What else a message's words may become: a tool's result may be written as a JSON string."""
    words = message.content
    if message.role == "tool":
        return json.dumps(words), json.dumps(words, ensure_ascii=False)
    return ()
