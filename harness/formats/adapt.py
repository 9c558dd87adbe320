"""A conversation in the form that a format can carry, before it is rendered."""

from __future__ import annotations

from dataclasses import replace

from harness.conversation import Conversation, Message
from harness.records import Format


def adapt_to_format(conversation: Conversation, chat_format: Format) -> Conversation:
    """A conversation as the format's owner and most front ends would put it.

    A developer's message is a system message where the format has no developer; system messages
    that then follow each other are one. A system prompt moves into the first question where the
    owner refuses one; without a question to carry it the conversation stays as it is, and rendering
    it reports the mistake. A thought stays: ``render`` leaves out what the format has no place for,
    and says so in ``Rendered.dropped``.
    """
    messages = _without_developer(conversation.messages, chat_format)
    if (
        chat_format.system == "unsupported"
        and len(messages) > 1
        and messages[0].role == "system"
        and messages[1].role == "user"
    ):
        system, first = messages[:2]
        words = f"{system.content}\n\n{first.content}"
        messages = (replace(first, content=words), *messages[2:])
    elif chat_format.kept and chat_format.system == "last-user":
        messages = _into_last_question(messages)
    return (
        conversation
        if messages is conversation.messages
        else replace(conversation, messages=messages)
    )


def _into_last_question(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The system prompt in the last question, where the template writes it ahead of an answer.

    Behind an answer such a template drops it, so a prompt would be asked that was never trained.
    """
    last = max((at for at, each in enumerate(messages) if each.role == "user"), default=0)
    if messages[0].role != "system" or not last or messages[-1].role == "user":
        return messages
    words = f"{messages[0].content}\n\n{messages[last].content}"
    question = replace(messages[last], content=words)
    return (*messages[1:last], question, *messages[last + 1 :])


def _without_developer(messages: tuple[Message, ...], chat_format: Format) -> tuple[Message, ...]:
    if "developer" in chat_format.roles or all(each.role != "developer" for each in messages):
        return messages
    adapted: list[Message] = []
    for given in messages:
        message = replace(given, role="system") if given.role == "developer" else given
        if adapted and message.role == adapted[-1].role == "system":
            words = f"{adapted.pop().content}\n\n{message.content}"
            message = replace(message, content=words)
        adapted.append(message)
    return tuple(adapted)


def thoughts_apart(conversation: Conversation) -> Conversation:
    """The conversation with each thought that is written in an answer's words as its ``reasoning``.

    Such an answer opens with a think block, whose opening tag may be missing: some owners write it
    in the generation prompt.
    """
    if not any(
        "</think>" in each.content and each.role == "assistant" and each.reasoning is None
        for each in conversation.messages
    ):
        return conversation
    return replace(conversation, messages=tuple(map(_thought_apart, conversation.messages)))


def _thought_apart(message: Message) -> Message:
    thought, mark, words = message.content.rpartition("</think>")
    if not mark or message.role != "assistant" or message.reasoning is not None:
        return message
    thought = thought.strip().removeprefix("<think>").strip("\n")
    return replace(message, content=words.lstrip("\n"), reasoning=thought)
