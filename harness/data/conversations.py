"""Conversation files → Conversation. This first version reads JSON lines of ``messages``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.data.jsonl import jsonl_files, read_jsonl
from harness.errors import HarnessError, nearest
from harness.records import ROLES, Conversation, Message

_KEYS = ("id", "messages", "tags")
_MESSAGE_KEYS = ("role", "content", "name")


def load_conversations(names: Iterable[str]) -> list[Conversation]:
    """Read conversations from files and folders.

    Raises HarnessError with ``file:line`` for anything that is not a conversation and for an id that
    occurs twice. A row without an id is named after its file and line.
    """
    conversations: list[Conversation] = []
    seen: dict[str, str] = {}
    for file in jsonl_files(names):
        for place, row in read_jsonl(file):
            number = place.rsplit(":", 1)[1]
            conversation = parse_conversation(row, place, default_id=f"{file.stem}-{number}")
            if conversation.id in seen:
                raise HarnessError(f"the id {conversation.id!r} stands already at {seen[conversation.id]}", where=place)
            seen[conversation.id] = place
            conversations.append(conversation)
    return conversations


def parse_conversation(row: dict[str, Any], place: str, default_id: str = "conversation") -> Conversation:
    """One row → Conversation. Raises HarnessError naming the place and the key."""
    unknown = [key for key in row if key not in _KEYS]
    if unknown:
        raise HarnessError(f"unknown key {unknown[0]!r}", where=place, hint=nearest(unknown[0], _KEYS))
    tags = row.get("tags", [])
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise HarnessError("tags is a list of texts", where=place)
    id = row.get("id", default_id)
    if not isinstance(id, str) or not id:
        raise HarnessError("id is a non-empty text", where=place)
    return Conversation(id, parse_messages(row.get("messages"), place), tuple(tags), place)


def parse_messages(value: Any, place: str) -> tuple[Message, ...]:
    """The ``messages`` list of a row. Raises HarnessError naming the message's index."""
    if not isinstance(value, list) or not value:
        raise HarnessError("messages is a non-empty list", where=place, hint='{"messages": [{"role": "user", "content": "…"}, …]}')
    return tuple(_message(entry, f"{place}: messages[{index}]") for index, entry in enumerate(value))


def _message(entry: Any, place: str) -> Message:
    if not isinstance(entry, dict):
        raise HarnessError("a message is an object with role and content", where=place)
    for key in entry:
        if key not in _MESSAGE_KEYS:
            raise HarnessError(f"unknown key {key!r}", where=place, hint=nearest(key, _MESSAGE_KEYS))
    role, content, name = entry.get("role"), entry.get("content"), entry.get("name")
    if role not in ROLES:
        raise HarnessError(f"unknown role {role!r}", where=place, hint=f"one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise HarnessError("content is a text", where=place)
    if name is not None and (not isinstance(name, str) or not name.strip() or "\n" in name):
        raise HarnessError("name is a text on one line", where=place)
    return Message(role, content, name)
