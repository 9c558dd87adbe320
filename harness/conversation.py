"""Conversations: messages with thoughts, tool calls and tool results, and the markers of these.

This module imports only the standard library. Each record checks its invariants when it is made, so
later code relies on them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the assistant. ``arguments`` is the JSON text of an object.

    The text is kept, not the object, so that a record can be compared and hashed and the order of
    the keys survives. Two calls have the same meaning where name and ``values()`` are equal.
    """

    name: str
    arguments: str = "{}"
    id: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a tool call needs a name")
        if not isinstance(self.values(), dict):
            raise ValueError(f"the arguments of {self.name} are not a JSON object")

    def values(self) -> Any:
        """The arguments as an object, keys in their order."""
        return json.loads(self.arguments)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the assistant may call: the JSON text of its definition.

    That is OpenAI's ``{"type": "function", "function": {"name": …, "parameters": …}}``.
    """

    definition: str

    def __post_init__(self) -> None:
        function = self.as_object().get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError('a tool needs {"type": "function", "function": {"name": …}}')

    def as_object(self) -> dict[str, Any]:
        """The definition as an object, keys in their order."""
        value = json.loads(self.definition)
        if not isinstance(value, dict):
            raise ValueError("a tool's definition is not a JSON object")
        return value

    @property
    def name(self) -> str:
        """The name by which it is called."""
        return str(self.as_object()["function"]["name"])


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    ``weight`` scales the loss of an assistant's message; at 0 it is only context. An assistant's
    message may hold a thought (``reasoning``) before its text and calls after it. A tool's message
    is the result of the call ``tool_call_id``, of the tool ``name``.
    """

    role: Role
    content: str
    name: str | None = None
    weight: float = 1.0
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"unknown role {self.role!r} (one of {', '.join(ROLES)})")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"invalid message weight {self.weight}: expected a number from 0")
        if self.role != "assistant" and (self.reasoning is not None or self.tool_calls):
            raise ValueError(f"only an assistant thinks or calls tools, not the {self.role}")
        if self.role != "tool" and self.tool_call_id is not None:
            raise ValueError(f"only a tool's message answers a call, not the {self.role}'s")

    @property
    def written(self) -> str:
        """Everything its speaker wrote: thought, text, and calls as ``name{…}``, one a line."""
        calls = (f"{call.name}{call.arguments}" for call in self.tool_calls)
        return "\n".join(filter(None, (self.reasoning, self.content, *calls)))


CallStyle = Literal["json", "named-json", "parameters", "pythonic", "quoted", "channels"]


@dataclass(frozen=True, slots=True)
class AnswerMarks:
    """The text that opens and closes a part of an answer, such as ``<think>`` and ``</think>``."""

    open: str = ""
    close: str = ""


NO_MARKS = AnswerMarks()


#: The markers that each style of calls requires.
_NEEDED = {
    "named-json": ("separator",),
    "parameters": ("open", "key_open", "key_close", "value_close"),
    "quoted": ("open", "quote"),
}


@dataclass(frozen=True, slots=True)
class CallMarks:
    """How a format writes the calls of an answer: one of a fixed set of styles, and its markers.

    - json: ``open``, then an object with the keys ``name`` and ``arguments`` or a list of such
      objects, then ``close``. Without ``open`` the whole answer is that JSON.
    - named-json: ``open``, the name, ``separator``, an object, ``close``.
    - parameters: ``open``, the name, ``separator``; for each argument ``key_open``, the key,
      ``key_close``, the value, ``value_close``; ``close``. A value is a text or JSON.
    - pythonic: ``open``, a list of calls with keyword arguments, ``close``.
    - quoted: ``open``, the name, ``{key:value,…}`` with texts between two ``quote``, ``close``.
    - channels: messages of OpenAI's harmony, each with a channel and perhaps a recipient.

    Newlines in a marker are optional in an answer. ``section_open`` and ``section_close`` enclose
    all calls; ``also_open`` is an alternative to ``open``.
    """

    style: CallStyle
    open: str = ""
    close: str = ""
    also_open: str = ""
    section_open: str = ""
    section_close: str = ""
    separator: str = ""
    name: str = "name"
    arguments: str = "arguments"
    id: str = "id"
    name_prefix: str = ""
    """A prefix before the name (``functions.``)."""
    name_end: str = ""
    """The name ends at the last of these (``:`` in ``functions.search:0``)."""
    key_open: str = ""
    key_close: str = ""
    key_end: str = ""
    """The key ends here. The text after it says whether the value is a string (``true``)."""
    value_close: str = ""
    quote: str = ""

    def __post_init__(self) -> None:
        missing = [name for name in _NEEDED.get(self.style, ()) if not getattr(self, name)]
        if missing:
            raise ValueError(f"calls of the style {self.style} need {', '.join(missing)}")


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """A parsed answer of a model: the inverse of rendering one.

    ``malformed`` holds texts between call markers that are not valid calls. ``unclosed`` means that
    a thought or a call was not closed.
    """

    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    malformed: tuple[str, ...] = ()
    unclosed: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order. ``source`` is ``file:line``, for error messages.

    ``plain`` marks a text that is not a dialogue (one assistant message), trained without a prompt
    format. ``tools`` are those that the assistant may call.
    """

    id: str
    messages: tuple[Message, ...]
    tags: tuple[str, ...] = ()
    source: str = ""
    plain: bool = False
    tools: tuple[Tool, ...] = ()

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("a conversation needs at least one message")

    @property
    def place(self) -> str:
        """Its source, or its id, for error messages."""
        return self.source or self.id

    def assistant_name(self) -> str | None:
        """The name of the last named assistant message: who answers in a format with names."""
        return next(
            (m.name for m in reversed(self.messages) if m.role == "assistant" and m.name), None
        )
