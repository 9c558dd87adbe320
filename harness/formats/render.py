"""Conversation × Format → Rendered: the one place where a text and its spans are made."""

from __future__ import annotations

from dataclasses import replace

from jinja2 import TemplateError

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats.skeleton import skeleton_of
from harness.formats.tracing import REFUSALS, Shape, trace
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
    messages = conversation.messages
    shape = Shape(
        tuple([message.role for message in messages]),
        tuple([message.name for message in messages]),
        add_generation_prompt,
        bos_token,
        eos_token,
        assistant_name or conversation.assistant_name() or ASSISTANT_NAME,
        _user_name(conversation),
    )
    contents = [message.content for message in messages]
    skeleton = skeleton_of(chat_format, shape)
    text, spans = (skeleton and skeleton.fill(contents)) or _traced(
        conversation, chat_format, shape, contents
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
    )


def _traced(
    conversation: Conversation, chat_format: Format, shape: Shape, contents: list[str]
) -> tuple[str, tuple[Span, ...]]:
    """Run the template itself over the messages, and check that nothing is lost."""
    try:
        text, spans = trace(chat_format, shape, contents)
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
    _check_lossless(conversation, chat_format, text, spans)
    return text, spans


def adapt_to_format(conversation: Conversation, chat_format: Format) -> Conversation:
    """Move a system prompt into the first question where the format's owner refuses one.

    llama.cpp and most front ends do the same. Without a question to carry it the conversation stays
    as it is, and rendering it reports the mistake.
    """
    messages = conversation.messages
    if (
        chat_format.system != "unsupported"
        or len(messages) < 2
        or messages[0].role != "system"
        or messages[1].role != "user"
    ):
        return conversation
    system, first = messages[:2]
    return replace(
        conversation,
        messages=(replace(first, content=f"{system.content}\n\n{first.content}"), *messages[2:]),
    )


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
    shown = [""] * len(conversation.messages)
    for span in spans:
        if span.kind == "content":
            shown[span.message] += text[span.start : span.end]
    for index, message in enumerate(conversation.messages):
        words = shown[index].strip()
        if words != message.content.strip() and words not in _without_reasoning(
            chat_format, message
        ):
            fate = "changes" if words else "drops"
            raise HarnessError(
                f"format {chat_format.id} {fate} message {index} ({message.role})",
                where=conversation.place,
                hint="the format has no place for a system prompt"
                if message.role == "system"
                else "the template must write every message's content once",
            )


def _without_reasoning(chat_format: Format, message: Message) -> tuple[str, ...]:
    """What a format may keep of an answer that opens with a think block.

    Its owner drops the block, or its opening tag, by position.
    """
    if (
        chat_format.reasoning == "none"
        or message.role != "assistant"
        or "</think>" not in message.content
    ):
        return ()
    return message.content.rpartition("</think>")[2].strip(), message.content.strip().removeprefix(
        "<think>"
    ).strip()
