"""Rows in any common schema → Conversation, with a list of the rows that are refused."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.conversation import ROLES, Conversation, Message
from harness.data.readers import DataRow, read_rows
from harness.data.refusals import Refusal, RefusedRow, bad_value
from harness.data.schemas import SCHEMAS, Schema, detect
from harness.errors import HarnessError, nearest
from harness.files import half_character

_MESSAGE_KEYS = ("role", "content", "name", "train", "weight")


@dataclass(slots=True)
class Collection:
    """Conversations with unique ids, refused rows, and counts of ignored keys and of schemas."""

    conversations: list[Conversation] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    schemas: Counter[str] = field(default_factory=Counter)
    _ids: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, schema: str = "auto", split: str = "train") -> list[Conversation]:
        """Add the rows of a file, folder or hub data set and return those that are conversations.

        By default a file's schema is that of its first row with a known one. Raises HarnessError
        when nothing can be read.
        """
        begin = len(self.conversations)
        for stem, rows in read_rows(name, split):
            known = SCHEMAS.get(schema)
            for row in rows:
                try:
                    if row.value is None:
                        raise RefusedRow("not JSON", row.problem, where=row.place)
                    known = known or _detected(row)
                    self._add(row, known, stem)
                except RefusedRow as error:
                    self.refusals.append(error.refusal(row.place))
        return self.conversations[begin:]

    def _add(self, row: DataRow, schema: Schema, stem: str) -> None:
        value = row.value or {}
        conversation = parse_conversation(value, row.place, f"{stem}-{row.number}", schema)
        if conversation.id in self._ids:
            if "id" in value:
                raise RefusedRow(
                    "duplicate id",
                    f"the id {conversation.id!r} is already at {self._ids[conversation.id]}",
                    where=row.place,
                )
            conversation = Conversation(
                row.place, conversation.messages, conversation.tags, row.place, conversation.plain
            )
        self._ids[conversation.id] = row.place
        self.conversations.append(conversation)
        self.schemas[schema.name] += 1
        self.ignored.update(key for key in value if key not in schema.keys)


def load_conversations(names: Iterable[str]) -> list[Conversation]:
    """Read conversations from files, folders and hub data sets.

    Raises HarnessError with ``file:line`` for the first row that cannot be read, and for an id that
    occurs twice. A row without an id is named after its file and line.
    """
    collection = Collection()
    for name in names:
        collection.read(name)
    if collection.refusals:
        first = collection.refusals[0]
        raise HarnessError(first.message, where=first.place)
    return collection.conversations


def _detected(row: DataRow) -> Schema:
    value = row.value or {}
    schema = detect(value)
    if schema is None:
        known = "; ".join(f"{each.name}: {', '.join(each.needs)}" for each in SCHEMAS.values())
        close = difflib.get_close_matches(
            next(iter(value), ""),
            [key for each in SCHEMAS.values() for key in each.needs],
            n=1,
            cutoff=0.7,
        )
        hint = f"did you mean {close[0]}?" if close else known
        raise RefusedRow(
            "unknown schema",
            f"no schema has the keys {', '.join(map(repr, value)) or '(none)'}",
            where=row.place,
            hint=hint,
        )
    return schema


def parse_conversation(
    row: dict[str, Any],
    place: str,
    default_id: str = "conversation",
    schema: Schema = SCHEMAS["messages"],
) -> Conversation:
    """One row → Conversation. Raises RefusedRow naming the place and the key.

    A key that is nearly one of the schema's is a mistake; others (a data set's own columns) are
    ignored.
    """
    for key in row:
        if key not in schema.keys and difflib.get_close_matches(key, schema.keys, n=1, cutoff=0.8):
            raise RefusedRow(
                "unknown key", f"unknown key {key!r}", where=place, hint=nearest(key, schema.keys)
            )
    missing = [key for key in schema.needs if key not in row]
    if missing:
        raise RefusedRow(
            "missing key",
            f"no key {missing[0]!r}",
            where=place,
            hint=f"rows of the schema {schema.name} have {', '.join(schema.needs)}",
        )
    tags = row.get("tags", [])
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise bad_value(place, "tags: expected a list of texts")
    if half := half_character("".join([str(row.get("id")), *tags])):
        raise bad_value(place, f"id or tags: half a character ({half})")
    row_id = row.get("id", default_id)
    if isinstance(row_id, bool) or not isinstance(row_id, str | int) or row_id == "":
        raise bad_value(place, "id: expected a non-empty text or a number")
    return Conversation(
        str(row_id),
        parse_messages(schema.messages(row, place), place),
        tuple(tags),
        place,
        schema.plain,
    )


def parse_messages(value: Any, place: str) -> tuple[Message, ...]:
    """The ``messages`` list of a row. Raises RefusedRow naming the message's index."""
    if not isinstance(value, list) or not value:
        raise bad_value(
            place,
            "messages: expected a non-empty list",
            '{"messages": [{"role": "user", "content": "…"}, …]}',
        )
    return tuple(
        _message(entry, f"{place}: messages[{index}]") for index, entry in enumerate(value)
    )


def _message(entry: Any, place: str) -> Message:
    if not isinstance(entry, dict):
        raise bad_value(place, "expected an object with role and content")
    for key in entry:
        if key not in _MESSAGE_KEYS:
            raise RefusedRow(
                "unknown key", f"unknown key {key!r}", where=place, hint=nearest(key, _MESSAGE_KEYS)
            )
    role, content, name = entry.get("role"), _joined(entry.get("content")), entry.get("name")
    if role not in ROLES:
        raise RefusedRow(
            "unknown role", f"unknown role {role!r}", where=place, hint=f"one of {', '.join(ROLES)}"
        )
    if not isinstance(content, str):
        raise bad_value(place, "content: expected a text")
    if half := half_character(content):
        raise bad_value(place, f"content: half a character ({half}); the text was cut there")
    if name is not None and (not isinstance(name, str) or not name.strip() or "\n" in name):
        raise bad_value(place, "name: expected a text on one line")
    if half := half_character(name or ""):
        raise bad_value(place, f"name: half a character ({half})")
    return Message(role, content, name, _weight(entry, role, place))


def _joined(content: Any) -> Any:
    """Join a content in parts if all of them are text."""
    if (
        isinstance(content, list)
        and content
        and all(
            isinstance(part, dict)
            and part.get("type") == "text"
            and isinstance(part.get("text"), str)
            for part in content
        )
    ):
        return "".join(part["text"] for part in content)
    return content


def _weight(entry: dict[str, Any], role: str, place: str) -> float:
    """``train`` and ``weight`` as one number. Only an assistant's message can be trained."""
    train, weight = entry.get("train", True), entry.get("weight", 1.0)
    if not isinstance(train, bool):
        raise bad_value(place, "train: expected true or false")
    if (
        isinstance(weight, bool)
        or not isinstance(weight, int | float)
        or not 0 <= weight < math.inf
    ):
        raise bad_value(place, "weight: expected a number from 0")
    if role != "assistant":
        if entry.get("train") is True or ("weight" in entry and weight > 0):
            raise RefusedRow(
                "cannot be trained",
                f"only an assistant's message can be trained, not the {role}'s",
                where=place,
            )
        return 1.0
    return float(weight) if train else 0.0


def as_row(conversation: Conversation) -> dict[str, Any]:
    """A conversation as a row of the schema ``messages``, or ``text`` when it is plain."""
    rest = {"tags": list(conversation.tags)} if conversation.tags else {}
    if conversation.plain:
        return {"id": conversation.id, "text": conversation.messages[0].content, **rest}
    return {
        "id": conversation.id,
        "messages": [_as_entry(message) for message in conversation.messages],
        **rest,
    }


def _as_entry(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        entry["name"] = message.name
    if message.weight == 0:
        return {**entry, "train": False}
    return entry if message.weight == 1 else {**entry, "weight": message.weight}
