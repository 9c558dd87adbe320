"""Read argument values that are not JSON: unquoted text, Python literals, quoted text.

Each reader returns None if the text is not such a value.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_PYTHON_VALUES = {"True": True, "False": False, "None": None}


def typed_value(text: str, schema: Any) -> Any:
    """A value written without quotes: text or, if its type is not text, JSON."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "string":
        return text
    bare = text.strip()
    if bare in _PYTHON_VALUES:
        return _PYTHON_VALUES[bare]
    try:
        value = json.loads(bare)
    except (ValueError, RecursionError):
        return _python_literal(bare, text)
    return text if kind is None and isinstance(value, str) else value


def _python_literal(bare: str, text: str) -> Any:
    """A list or an object in Python's notation, which some owners' templates write."""
    if bare[:1] in ("[", "{"):
        try:
            return ast.literal_eval(bare)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return text
    return text


def python_calls(text: str, at: int) -> tuple[list[tuple[str, dict[str, Any]]], int] | None:
    """``[name(key=value), …]`` as names and arguments, and where the list ends."""
    end = _end_of_list(text, at)
    if end is None:
        return None
    try:
        tree = ast.parse(text[at:end].strip(), mode="eval").body
        if not isinstance(tree, ast.List):
            return None
        return [_python_call(node) for node in tree.elts], end
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _end_of_list(text: str, at: int) -> int | None:
    """The position after the bracket that closes the list beginning here."""
    depth, quote, skip = 0, "", False
    for index in range(at, len(text)):
        char = text[index]
        if skip:
            skip = False
        elif quote:
            skip, quote = char == "\\", "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[({":
            depth += 1
        elif char in "])}":
            depth -= 1
            if depth <= 0:
                return index + 1
    return None


def _python_call(node: ast.expr) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with keyword arguments")
    arguments = {each.arg: _literal(each.value) for each in node.keywords if each.arg is not None}
    return ast.unparse(node.func), arguments


def _literal(node: ast.expr) -> Any:
    """A Python value, with JSON's words for true, false and null."""
    if isinstance(node, ast.Name) and node.id in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[node.id]
    if isinstance(node, ast.List):
        return [_literal(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _literal(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    return ast.literal_eval(node)


def quoted_value(text: str, at: int, quote: str) -> tuple[Any, int] | None:
    """``{key:value,…}``, a list or a value, whose texts are between two quote marks."""
    if text.startswith(quote, at):
        end = text.find(quote, at + len(quote))
        return (text[at + len(quote) : end], end + len(quote)) if end >= 0 else None
    if text.startswith("{", at):
        return _quoted_items(text, at + 1, quote, "}")
    if text.startswith("[", at):
        return _quoted_items(text, at + 1, quote, "]")
    bare = re.compile(r"[^,}\]]*").match(text, at)
    word = bare[0].strip() if bare else ""
    try:
        return (json.loads(word), bare.end()) if bare else None
    except ValueError:
        return None


def _quoted_items(text: str, at: int, quote: str, end: str) -> tuple[Any, int] | None:
    pairs: dict[str, Any] = {}
    items: list[Any] = []
    while not text.startswith(end, at):
        key = ""
        if end == "}":
            written = _quoted_key(text, at, quote)
            if written is None:
                return None
            key, at = written
        value = quoted_value(text, at, quote)
        if value is None:
            return None
        pairs[key], at = value
        items.append(value[0])
        at += text.startswith(",", at)
        if at >= len(text):
            return None
    return (pairs if end == "}" else items), at + 1


def _quoted_key(text: str, at: int, quote: str) -> tuple[str, int] | None:
    if text.startswith(quote, at):
        end = text.find(quote, at + len(quote))
        return (text[at + len(quote) : end], end + len(quote) + 1) if end >= 0 else None
    colon = text.find(":", at)
    return (text[at:colon].strip(), colon + 1) if colon >= 0 else None
