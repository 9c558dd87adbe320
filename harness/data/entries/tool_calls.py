"""Read tool calls and tools in every common spelling."""

from __future__ import annotations

import json
from typing import Any

from harness.conversation import Tool, ToolCall
from harness.data.entries.row_notes import RowNotes
from harness.data.refusals import bad_value
from harness.files import half_character, parse_json

_CALL_KEYS = {"id", "type", "function", "name", "arguments", "parameters", "input", "index"}
_SHAPE = '{"name": "…", "arguments": {…}}'
_TOOL_SHAPE = '[{"type": "function", "function": {"name": "…", "parameters": {…}}}]'


def without_null_keys(value: dict[str, Any]) -> dict[str, Any]:
    """An object without the keys whose value is null: exports give every row every key."""
    return {key: part for key, part in value.items() if part is not None}


def as_list(value: Any) -> Any:
    """The list of objects for an object of lists; any other value unchanged.

    Data sets of the hub store a "sequence of structs" as an object of lists.
    """
    if not isinstance(value, dict) or not value:
        return value
    columns = list(value.values())
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return value
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def json_text(value: Any) -> str:
    """A value as JSON text, with keys in their order and no escapes for non-ASCII letters."""
    return json.dumps(value, ensure_ascii=False)


def parse_calls(value: Any, place: str, notes: RowNotes) -> tuple[ToolCall, ...]:
    """The calls of one message: a list of them, one, or the JSON text of either.

    A call is OpenAI's object with ``function``, or has its name and arguments itself. Arguments are
    an object or the JSON text of one. Raises RefusedRow.
    """
    value = as_list(_unpacked(value, place))
    calls = tuple(
        _call(entry, f"{place}[{index}]" if isinstance(value, list) else place, notes)
        for index, entry in enumerate(value if isinstance(value, list) else [value])
    )
    ids = [call.id for call in calls if call.id is not None]
    if len(ids) > len(set(ids)):
        raise bad_value(place, "two calls have the same id")
    return calls


def _unpacked(value: Any, place: str, shape: str = _SHAPE) -> Any:
    """The value of a JSON text; any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError as error:
        raise bad_value(place, f"not JSON: {_first_line(error)}", shape) from None


def _call(value: Any, place: str, notes: RowNotes) -> ToolCall:
    value = _unpacked(value, place)
    if not isinstance(value, dict):
        raise bad_value(place, "expected an object with name and arguments", _SHAPE)
    entry = without_null_keys(value)
    notes.ignore(entry, _CALL_KEYS, place, "tool_calls[].")
    function = entry.get("function", entry)
    if not isinstance(function, dict):
        raise bad_value(place, "function: expected an object", _SHAPE)
    name, call_id = function.get("name"), entry.get("id")
    if not isinstance(name, str) or not name.strip():
        raise bad_value(place, "name: expected the name of a tool", _SHAPE)
    given = next(
        (function[key] for key in ("arguments", "parameters", "input") if key in function), None
    )
    return ToolCall(
        _whole(name, place), _arguments(given, name, place), identifier(call_id, f"{place}: id")
    )


def _arguments(value: Any, name: str, place: str) -> str:
    if value is None or value == "":
        return "{}"
    found = _unpacked(value, f"{place}: arguments of {name}")
    if not isinstance(found, dict):
        raise bad_value(place, f"arguments of {name}: expected an object, not {_kind(found)}")
    return _whole(json_text(found), place)


def identifier(value: Any, place: str) -> str | None:
    """A call's id as text; an empty one counts as none."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise bad_value(place, "expected a text")
    return _whole(str(value), place)


def parse_tools(value: Any, place: str) -> tuple[Tool, ...]:
    """The tools of a row: a list, or the JSON text of one. Raises RefusedRow.

    A tool is OpenAI's object with ``function``, that object's ``function`` alone, or Anthropic's
    with ``input_schema``. No tools are an empty tuple.
    """
    if value is None or value == "":
        return ()
    found = _unpacked(value, place, _TOOL_SHAPE)
    if not isinstance(found, list):
        raise bad_value(place, f"expected a list of tools, not {_kind(found)}", _TOOL_SHAPE)
    tools = tuple(_tool(entry, f"{place}[{index}]") for index, entry in enumerate(found))
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise bad_value(place, f"two tools have the name {twice!r}")
    return tools


def _tool(value: Any, place: str) -> Tool:
    entry = _unpacked(value, place, _TOOL_SHAPE)
    if not isinstance(entry, dict):
        raise bad_value(place, f"expected an object, not {_kind(entry)}", _TOOL_SHAPE)
    function = entry.get("function")
    if function is None:
        function = {key: part for key, part in entry.items() if key != "type" and part is not None}
        if "input_schema" in function:
            function["parameters"] = function.pop("input_schema")
        entry = {"type": "function", "function": function}
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise bad_value(place, "a tool needs a name", _TOOL_SHAPE)
    return Tool(_whole(json_text({"type": "function", **entry}), place))


def _whole(text: str, place: str) -> str:
    if half := half_character(text):
        raise bad_value(place, f"unpaired surrogate ({half})")
    return text


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _kind(value: Any) -> str:
    names = {type(None): "null", list: "a list", dict: "an object", bool: "true or false"}
    return names.get(type(value), "a text" if isinstance(value, str) else "a number")
