"""Check the arguments of a call against its tool's schema.

The part of JSON Schema that tools use is supported: type, required, properties, items, enum, const,
anyOf. Any other keyword accepts every value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from harness.conversation import Tool, ToolCall

#: Python's names of types (xLAM: ``"type": "int"``) are understood too.
_NUMBERS = {"integer": "integer", "int": "integer", "number": "number", "float": "number"}
_TESTS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "str": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "dict": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "list": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


def unfit(call: ToolCall, tool: Tool) -> str:
    """The first mistake in a call's arguments, or ""."""
    parameters = tool.as_object()["function"].get("parameters")
    return next(_mistakes(call.values(), parameters, ""), "")


def _mistakes(value: Any, schema: Any, name: str) -> Iterator[str]:
    if not isinstance(schema, dict) or (value is None and schema.get("nullable") is True):
        return
    if not _has_type(value, schema.get("type")):
        yield f"{name or 'the arguments'} is {_shown(value)}, not {schema['type']}"
        return
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(choices, list) and value not in choices:
        yield f"{name or 'the arguments'} is {_shown(value)}, not one of {_shown(choices)}"
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list) and not any(_fits(value, each, name) for each in options):
        yield f"{name or 'the arguments'} is {_shown(value)}, which matches none of its schemas"
    if isinstance(value, dict):
        yield from _in_object(value, schema, name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _mistakes(item, schema.get("items"), f"{name}[{index}]")


def _in_object(value: dict[str, Any], schema: dict[str, Any], name: str) -> Iterator[str]:
    before = f"{name}." if name else ""
    required, properties = schema.get("required"), schema.get("properties")
    for key in required if isinstance(required, list) else ():
        if key not in value:
            yield f"{before}{key} is missing"
    if not isinstance(properties, dict):
        return
    open_ended = schema.get("additionalProperties") not in (None, False)
    for key, item in value.items():
        if key in properties:
            yield from _mistakes(item, properties[key], f"{before}{key}")
        elif not open_ended and "patternProperties" not in schema:
            yield f"{before}{key} is not one of its arguments"


def _fits(value: Any, schema: Any, name: str) -> bool:
    return not any(_mistakes(value, schema, name))


def _has_type(value: Any, kind: Any) -> bool:
    kinds = kind if isinstance(kind, list) else [kind]
    return any(_is(value, each) for each in kinds)


def _is(value: Any, kind: Any) -> bool:
    if not isinstance(kind, str):
        return True
    number = _NUMBERS.get(kind.lower())
    if number:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (whole or number == "number")
    return _TESTS.get(kind.lower(), lambda _: True)(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
