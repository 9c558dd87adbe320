"""Parse the tool calls in an answer, in one of the styles that formats use.

A fixed set of styles covers the formats in use (``harness.conversation.CallMarks``). A reader gets
the text after an opening marker. It returns the calls there and where they end, or None if the text
is not a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from harness.conversation import CallMarks, Tool, ToolCall
from harness.formats.answers.call_values import python_calls, quoted_value, typed_value

Types = Mapping[str, Mapping[str, Any]]
"""For each tool, the schema of each of its arguments."""


class Read(NamedTuple):
    """Calls that were read, and where they end."""

    calls: list[ToolCall]
    end: int


@dataclass
class Found:
    """The text around the calls, the calls, and texts that only looked like calls."""

    words: str
    calls: list[ToolCall] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    unclosed: bool = False


def read_calls(text: str, marks: CallMarks, tools: Sequence[Tool] = ()) -> Found:
    """Take the calls out of an answer."""
    reader, types = _READERS[marks.style], _types(tools)
    opening = _opening(marks)
    if opening is None:
        return _bare(text, marks, reader, types)
    found, at = Found(""), 0
    while section := opening.search(text, at):
        found.words += text[at : section.start()]
        at = _read_one(text, section.end(), marks, reader, types, found)
    found.words += text[at:]
    if found.calls or found.malformed:
        _close_section(found, marks)
    return found


def _close_section(found: Found, marks: CallMarks) -> None:
    """Remove the markers around all calls. Without the closing one, they are unclosed."""
    opening, closing = marks.section_open.strip(), marks.section_close.strip()
    if opening and opening in found.words:
        found.unclosed |= bool(closing) and closing not in found.words
        found.words = found.words.replace(opening, "").replace(closing, "")


def _read_one(
    text: str, at: int, marks: CallMarks, reader: Reader, types: Types, found: Found
) -> int:
    """Read the text after one opening marker. Returns where the answer continues."""
    closing = flexible(marks.close)
    read = reader(text, at, marks, types)
    if read is not None:
        found.calls += read.calls
        end = re.compile(r"\s*" + closing.pattern).match(text, read.end)
        found.unclosed |= end is None
        return end.end() if end else read.end
    close = closing.search(text, at) if marks.close else None
    found.unclosed |= bool(marks.close) and close is None
    found.malformed.append(text[at : close.start() if close else len(text)].strip())
    return close.end() if close else len(text)


def _bare(text: str, marks: CallMarks, reader: Reader, types: Types) -> Found:
    """For a format without markers: the whole answer is a call, or none of it is."""
    words = text.strip()
    body = words.removeprefix(marks.also_open).removesuffix(marks.close).strip()
    begins = body[:1] in ("{", "[")
    if marks.style == "named-json":
        begins = re.match(r"[\w.:-]+" + re.escape(marks.separator) + r"\{", text) is not None
    read = reader(body, 0, marks, types) if begins else None
    if read is not None and not body[read.end :].strip(" \n;"):
        return Found("", read.calls)
    marked = bool(marks.also_open) and words.startswith(marks.also_open)
    if marked or re.match(
        rf'\[?\s*\{{\s*"{re.escape(marks.name)}"\s*:[^,]*,\s*"{marks.arguments}"', body
    ):
        return Found("", malformed=[body], unclosed=not body.endswith(("}", "]")))
    return Found(text)


def _opening(marks: CallMarks) -> re.Pattern[str] | None:
    if not marks.open:
        return None
    opens = [flexible(mark).pattern for mark in (marks.open, marks.also_open) if mark]
    return re.compile("|".join(opens))


@lru_cache(maxsize=256)
def flexible(mark: str) -> re.Pattern[str]:
    """The pattern of a marker whose newlines are optional."""
    return re.compile(re.escape(mark).replace("\\\n", "\n?") if mark.strip() else re.escape(mark))


def _types(tools: Sequence[Tool]) -> Types:
    types: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        parameters = tool.as_object()["function"].get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        types[tool.name] = properties if isinstance(properties, dict) else {}
    return types


def _call(name: Any, arguments: Any, call_id: Any = None) -> ToolCall | None:
    if not isinstance(name, str) or not name.strip() or not isinstance(arguments, dict):
        return None
    try:
        written = json.dumps(arguments, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # a set or bytes, as Python writes them
        return None
    return ToolCall(name.strip(), written, call_id if isinstance(call_id, str) else None)


def _json_value(text: str, at: int) -> tuple[Any, int] | None:
    space = re.compile(r"\s*").match(text, at)
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, space.end() if space else at)
    except (ValueError, RecursionError):
        return None


def _read_json(text: str, at: int, marks: CallMarks, _types: Types) -> Read | None:
    """An object with a name and arguments, a list of such objects, or several in a row."""
    rows: list[Any] = []
    end = at
    while (value := _json_value(text, end)) is not None:
        rows += value[0] if isinstance(value[0], list) else [value[0]]
        end = value[1]
    calls = [
        _call(row.get(marks.name), row.get(marks.arguments), row.get(marks.id))
        for row in rows
        if isinstance(row, dict)
    ]
    whole = [call for call in calls if call is not None]
    return Read(whole, end) if whole and len(whole) == len(rows) else None


def _name(text: str, marks: CallMarks) -> str:
    name = text.strip().removeprefix(marks.name_prefix)
    return name.rpartition(marks.name_end)[0] or name if marks.name_end else name


def _read_named_json(text: str, at: int, marks: CallMarks, _types: Types) -> Read | None:
    """A name, a separator, an object."""
    separator = flexible(marks.separator).search(text, at)
    value = _json_value(text, separator.end()) if separator else None
    if separator is None or value is None:
        return None
    call = _call(_name(text[at : separator.start()], marks), value[0])
    return Read([call], value[1]) if call else None


def _read_parameters(text: str, at: int, marks: CallMarks, types: Types) -> Read | None:
    """A name, then a key and a value between markers for each argument."""
    opens, closes = flexible(marks.key_open), flexible(marks.close)
    separator, first = flexible(marks.separator), opens.search(text, at)
    close = closes.search(text, at)
    name_end = separator.search(text, at) if marks.separator else None
    ends = [each.start() for each in (name_end, first, close) if each]
    if not ends:
        return None
    name = _name(text[at : min(ends)], marks)
    if not name or "\n" in name:
        return None
    at = name_end.end() if name_end and name_end.start() == min(ends) else min(ends)
    arguments: dict[str, Any] = {}
    while key := re.compile(r"\s*" + opens.pattern).match(text, at):
        middle = flexible(marks.key_close).search(text, key.end())
        value = flexible(marks.value_close).search(text, middle.end()) if middle else None
        if middle is None or value is None:
            return None
        label, _, is_text = text[key.end() : middle.start()].partition(marks.key_end or "\0")
        label, written = label.strip(), text[middle.end() : value.start()]
        schema = {"type": "string"} if is_text == "true" else types.get(name, {}).get(label)
        arguments[label] = typed_value(written, schema)
        at = value.end()
    if not re.compile(r"\s*" + closes.pattern).match(text, at) and text[at:].strip():
        return None
    call = _call(name, arguments)
    return Read([call], at) if call else None


def _read_pythonic(text: str, at: int, _marks: CallMarks, _types: Types) -> Read | None:
    """``[name(key=value), …]``."""
    found = python_calls(text, at)
    calls = [_call(*row) for row in found[0]] if found else []
    whole = [call for call in calls if call is not None]
    return Read(whole, found[1]) if found and whole and len(whole) == len(calls) else None


def _read_quoted(text: str, at: int, marks: CallMarks, _types: Types) -> Read | None:
    """A name and ``{key:value,…}``, whose texts are between two quote marks."""
    brace = text.find("{", at)
    try:
        value = quoted_value(text, brace, marks.quote) if brace >= 0 else None
    except RecursionError:
        value = None
    if value is None:
        return None
    call = _call(_name(text[at:brace], marks), value[0])
    return Read([call], value[1]) if call else None


Reader = Callable[[str, int, CallMarks, Types], Read | None]
_READERS: dict[str, Reader] = {
    "json": _read_json,
    "named-json": _read_named_json,
    "parameters": _read_parameters,
    "pythonic": _read_pythonic,
    "quoted": _read_quoted,
}
