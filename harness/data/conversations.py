"""Rows in any common schema → Conversation, with a list of the rows that are refused."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.data.entries.answer_text import split_calls, split_thought, split_tools
from harness.data.entries.call_order import messages_in_order
from harness.data.entries.content_parts import not_text
from harness.data.entries.message_entries import parse_entry
from harness.data.entries.row_notes import RowNotes
from harness.data.entries.tool_calls import as_list, parse_tools, without_null_keys
from harness.data.readers import DataRow, read_rows
from harness.data.refusals import Refusal, RefusedRow, bad_value
from harness.data.schemas import (
    MEDIA,
    SCHEMAS,
    Schema,
    detect,
    refuse_preference,
    system_beside,
    tools_of,
)
from harness.errors import HarnessError
from harness.files import half_character

TOOL_TAGS = "<tools> … </tools> in a system prompt are the row's tools"


@dataclass(slots=True)
class Collection:
    """Conversations with unique ids, refused rows, and counts of rows.

    ``schemas`` counts rows by schema, ``ignored`` by unused key, and ``readings`` by what was
    parsed from their text.
    """

    conversations: list[Conversation] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    readings: Counter[str] = field(default_factory=Counter)
    schemas: Counter[str] = field(default_factory=Counter)
    _ids: dict[str, str] = field(default_factory=dict)

    def read(
        self, name: str, schema: str = "auto", split: str = "train", *, most: int | None = None
    ) -> list[Conversation]:
        """Add the rows of a file, folder or hub data set and return those that are conversations.

        By default a file's schema is that of its first row with a known one. ``most`` limits the
        rows of each file. Raises HarnessError when nothing can be read.
        """
        begin = len(self.conversations)
        for stem, rows in read_rows(name, split):
            known = SCHEMAS.get(schema)
            for row in islice(rows, most):
                try:
                    if row.value is None:
                        raise RefusedRow("not JSON", row.problem, where=row.place)
                    known = known or _detected(row)
                    self._add(row, known, stem)
                except RefusedRow as error:
                    self.refusals.append(error.refusal(row.place))
        return self.conversations[begin:]

    def notes(self) -> list[str]:
        """A line on the ignored keys, and one for each kind of value parsed from text."""
        return note_lines(self.ignored, self.readings)

    def _add(self, row: DataRow, schema: Schema, stem: str) -> None:
        value = without_null_keys(row.value or {})
        notes = RowNotes()
        conversation = parse_conversation(value, row.place, f"{stem}-{row.number}", schema, notes)
        if conversation.id in self._ids:
            if "id" in value:
                raise RefusedRow(
                    "duplicate id",
                    f"the id {conversation.id!r} is already at {self._ids[conversation.id]}",
                    where=row.place,
                )
            conversation = replace(conversation, id=row.place)
        self._ids[conversation.id] = row.place
        self.conversations.append(conversation)
        self.schemas[schema.name] += 1
        self.ignored.update(notes.ignored)
        self.readings.update(notes.readings)


def note_lines(ignored: Mapping[str, int], readings: Mapping[str, int]) -> list[str]:
    """The counts of a collection, one line each."""
    lines = []
    if ignored:
        most = Counter(ignored).most_common(8)
        more = f" and {len(ignored) - 8} more" if len(ignored) > 8 else ""
        counts = ", ".join(f"{key} ({count})" for key, count in most)
        lines.append(f"ignored keys of the data (rows): {counts}{more}")
    lines += [
        f"{reading} ({count} row{'s' * (count != 1)})"
        for reading, count in Counter(readings).most_common()
    ]
    return lines


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
    value = without_null_keys(row.value or {})
    refuse_preference(value, row.place)
    schema = detect(value)
    if schema is None:
        known = "; ".join(
            f"{each.name}: {', '.join(keys[0] for keys in each.needs)}" for each in SCHEMAS.values()
        )
        close = difflib.get_close_matches(
            next(iter(value), ""),
            [key for each in SCHEMAS.values() for keys in each.needs for key in keys],
            n=1,
            cutoff=0.7,
        )
        hint = f"did you mean {close[0]}?" if close and close[0] not in value else known
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
    notes: RowNotes | None = None,
) -> Conversation:
    """One row → Conversation. Raises RefusedRow naming the place and the key.

    A key that nearly matches one of the schema's is a mistake; others (a data set's own columns)
    are ignored. ``notes`` records these, and what was parsed from text.
    """
    notes = notes or RowNotes()
    row = without_null_keys(row)
    refuse_preference(row, place)
    _refuse_media(row, place)
    notes.ignore((key for key in row if row[key] or key not in MEDIA), schema.keys, place)
    if missing := schema.missing(row):
        raise RefusedRow(
            "missing key",
            f"no key {missing!r}",
            where=place,
            hint=f"rows of the schema {schema.name} have "
            + ", ".join(keys[0] for keys in schema.needs),
        )
    tags = row.get("tags", [])
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise bad_value(place, "tags: expected a list of texts")
    if half := half_character("".join([str(row.get("id")), *tags])):
        raise bad_value(place, f"id or tags: unpaired surrogate ({half})")
    row_id = row.get("id", default_id)
    if isinstance(row_id, bool) or not isinstance(row_id, str | int) or row_id == "":
        raise bad_value(place, "id: expected a non-empty text or a number")
    entries = schema.messages(row, place, notes)
    if schema.plain:
        messages: tuple[Message, ...] = (_plain(entries[0]["content"], place),)
        tools: tuple[Tool, ...] = ()
    else:
        own = next((key for key in ("conversations", "conversation") if key in row), "messages")
        beside = system_beside(row, entries)
        messages, tools = parse_dialogue(
            entries, tools_of(row, place), place, notes, name=own, first=-beside
        )
    return Conversation(str(row_id), messages, tuple(tags), place, schema.plain, tools)


def _refuse_media(row: dict[str, Any], place: str) -> None:
    media = Counter[str]()
    for key in MEDIA.keys() & row.keys():
        media[MEDIA[key]] += len(row[key]) if isinstance(row[key], list) else bool(row[key])
    if any(media.values()):
        raise not_text(place, +media)


def _plain(text: Any, place: str) -> Message:
    """The message that holds a plain text to train on."""
    if not isinstance(text, str):
        raise bad_value(place, "text: expected a text")
    if half := half_character(text):
        raise bad_value(place, f"text: unpaired surrogate ({half}); the text was cut there")
    return Message("assistant", text)


def parse_messages(value: Any, place: str, notes: RowNotes | None = None) -> tuple[Message, ...]:
    """The ``messages`` list of a row. Raises RefusedRow naming the message's index."""
    return parse_dialogue(value, [], place, notes)[0]


def parse_dialogue(
    value: Any,
    tools: Any,
    place: str,
    notes: RowNotes | None = None,
    *,
    name: str = "messages",
    first: int = 0,
) -> tuple[tuple[Message, ...], tuple[Tool, ...]]:
    """The messages of a row and its tools, which may be in its system prompt.

    ``tools`` is the value of the row's own key, or None where it has none. ``name`` is the list's
    in the row, and ``first`` the number of its first entry. Raises RefusedRow.
    """
    notes, value = notes or RowNotes(), as_list(value)
    if not isinstance(value, list) or not value:
        raise bad_value(
            place,
            "messages: expected a non-empty list",
            '{"messages": [{"role": "user", "content": "…"}, …]}',
        )
    if tools is None:
        tools = next((e["tools"] for e in value if isinstance(e, dict) and e.get("tools")), None)
    entries = [
        parse_entry(entry, f"{place}: {name}[{index}]", notes)
        for index, entry in enumerate(value, first)
    ]
    messages = messages_in_order(entries)
    found = split_tools(messages[0].content) if tools is None and len(messages) > 1 else None
    if found and messages[0].role == "system":
        notes.readings.add(TOOL_TAGS)
        words, tools = found
        system = (replace(messages[0], content=words),) if words else ()
        messages = (*system, *messages[1:])
    return messages, parse_tools(tools, f"{place}: tools")


def as_row(conversation: Conversation) -> dict[str, Any]:
    """A conversation as a row of the schema ``messages``, or ``text`` when it is plain.

    Reading the row gives the same conversation. Arguments and tools are objects, as transformers
    passes them to a template.
    """
    rest: dict[str, Any] = {"tags": list(conversation.tags)} if conversation.tags else {}
    if conversation.plain:
        return {"id": conversation.id, "text": conversation.messages[0].content, **rest}
    first = conversation.messages[0]
    if conversation.tools or (first.role == "system" and split_tools(first.content)):
        rest["tools"] = [tool.as_object() for tool in conversation.tools]
    return {
        "id": conversation.id,
        "messages": [_as_entry(message) for message in conversation.messages],
        **rest,
    }


def _as_entry(message: Message) -> dict[str, Any]:
    """A message as an object. An empty thought or call list keeps tags in its text literal."""
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "assistant":
        if message.reasoning or split_thought(message.content).words != message.content:
            entry["reasoning_content"] = message.reasoning or ""
        if message.tool_calls or split_calls(message.content).calls:
            entry["tool_calls"] = [_as_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        entry["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        entry["name"] = message.name
    if message.weight == 0:
        return {**entry, "train": False}
    return entry if message.weight == 1 else {**entry, "weight": message.weight}


def _as_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.values()}
    return ({} if call.id is None else {"id": call.id}) | {"type": "function", "function": function}
