"""Go's text/template, evaluated as Ollama evaluates its chat templates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.errors import HarnessError
from harness.formats.exchange.programs.go_syntax import (
    Action,
    Branch,
    Field,
    Function,
    Jump,
    Literal,
    Node,
    Operand,
    Pipe,
    Text,
    parse_go,
)

MOST_STEPS = 20_000
MOST_CHARACTERS = 200_000


class GoFaultError(HarnessError):
    """The template fails on these messages, as Go's own error."""


class Struct(dict[str, Any]):
    """A value whose fields are fixed: another field is an error, and not nothing."""


class _Jump(Exception):  # a signal, never shown
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class GoTemplate:
    """A parsed template. ``names`` are the fields and variables that it mentions."""

    def __init__(self, source: str) -> None:
        self.nodes = parse_go(source)
        self.names = frozenset(_names(self.nodes))

    def write(self, data: Mapping[str, Any], *, until: str | None = None) -> str:
        """The text for these data; with ``until``, without all that comes behind that field.

        Raises GoFaultError for what Go refuses, and for a template that runs too long.
        """
        nodes = _cut_behind(self.nodes, until) if until else self.nodes
        return _Run(dict(data)).write(nodes)


def _names(nodes: Sequence[Node]) -> list[str]:
    found: list[str] = []
    for node in nodes:
        if isinstance(node, (Action, Branch)):
            found += _names_in(node.pipe)
        if isinstance(node, Branch):
            found += _names(node.body) + _names(node.otherwise)
    return found


def _names_in(pipe: Pipe) -> list[str]:
    fields = [part for command in pipe.commands for part in command if isinstance(part, Field)]
    inner = [name for part in fields if part.inner for name in _names_in(part.inner)]
    return [*(name for part in fields for name in part.path), *inner]


def _cut_behind(nodes: Sequence[Node], name: str) -> list[Node]:
    """The nodes up to the one that writes the field ``name``."""
    met = False

    def cut(nodes: Sequence[Node]) -> list[Node]:
        nonlocal met
        kept: list[Node] = []
        for node in nodes:
            if met:
                break
            if isinstance(node, Branch):
                body = cut(node.body)
                kept.append(Branch(node.kind, node.pipe, body, cut(node.otherwise)))
            else:
                kept.append(node)
                met = isinstance(node, Action) and name in _names_in(node.pipe)
        return kept

    return cut(nodes)


class _Run:
    def __init__(self, data: dict[str, Any]) -> None:
        self.dot: Any = data
        self.scopes: list[dict[str, Any]] = [{"$": data}]
        self.parts: list[str] = []
        self.steps = self.length = 0

    def write(self, nodes: Sequence[Node]) -> str:
        try:
            self._walk(nodes)
        except _Jump as jump:
            raise GoFaultError(f"{jump.kind} outside a range") from None
        return "".join(self.parts)

    def _walk(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise GoFaultError("the template takes too many steps")
            if isinstance(node, Text):
                self._put(node.text)
            elif isinstance(node, Jump):
                raise _Jump(node.kind)
            elif isinstance(node, Action):
                value = self._pipe(node.pipe)
                if not node.pipe.sets:
                    self._put(shown(value))
            elif node.kind == "range":
                self._range(node)
            else:
                self._choose(node)

    def _put(self, text: str) -> None:
        self.length += len(text)
        if self.length > MOST_CHARACTERS:
            raise GoFaultError("the template writes too much")
        self.parts.append(text)

    def _choose(self, node: Branch) -> None:
        self.scopes.append({})
        dot = self.dot
        value = self._pipe(node.pipe)
        if node.kind == "with" and is_true(value):
            self.dot = value
        self._walk(node.body if is_true(value) else node.otherwise)
        self.dot = dot
        self.scopes.pop()

    def _range(self, node: Branch) -> None:
        dot, depth = self.dot, len(self.scopes)
        self.scopes.append({})
        items = self._pipe(Pipe(node.pipe.commands))
        if isinstance(items, Mapping):
            pairs = sorted(items.items())
        elif isinstance(items, int) and not isinstance(items, bool):
            pairs = [(at, at) for at in range(min(items, MOST_STEPS))]
        elif items is None or isinstance(items, (list, tuple)):
            pairs = list(enumerate(items or ()))
        else:
            raise GoFaultError(f"range cannot go over {shown(items)!r}")
        for key, value in pairs:
            names = node.pipe.sets
            variables = dict(zip(names, (key, value) if len(names) > 1 else (value,), strict=False))
            self.scopes = [*self.scopes[: depth + 1], variables]
            self.dot = value
            try:
                self._walk(node.body)
            except _Jump as jump:
                if jump.kind == "break":
                    break
        self.dot = dot
        self.scopes = self.scopes[: depth + 1]
        if not pairs:
            self._walk(node.otherwise)
        self.scopes = self.scopes[:depth]

    def _pipe(self, pipe: Pipe) -> Any:
        value: Any = None
        for at, command in enumerate(pipe.commands):
            value = self._command(command, (value,) if at else ())
        for name in pipe.sets:
            if pipe.declares:
                self.scopes[-1][name] = value
            else:
                self._scope_of(name)[name] = value
        return value

    def _scope_of(self, name: str) -> dict[str, Any]:
        scope: dict[str, Any]
        for scope in reversed(self.scopes):
            if name in scope:
                return scope
        raise GoFaultError(f"undefined variable {name}")

    def _command(self, command: tuple[Operand, ...], piped: tuple[Any, ...]) -> Any:
        first, *rest = command
        if not isinstance(first, Function):
            if rest or piped:
                raise GoFaultError("a value is called like a function")
            return self._value(first)
        if first.name in ("and", "or"):
            return self._first_that(first.name == "or", rest, piped)
        function = FUNCTIONS.get(first.name)
        if function is None:
            raise GoFaultError(f"the function {first.name} is not known here")
        values = [self._value(operand) for operand in rest]
        try:
            return function(*values, *piped)
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise GoFaultError(f"{first.name}: {error}") from None

    def _first_that(self, wanted: bool, rest: Sequence[Operand], piped: tuple[Any, ...]) -> Any:
        """``or`` is its first true value, ``and`` its first false one; later ones are not read."""
        value: Any = None
        for operand in rest:
            value = self._value(operand)
            if is_true(value) == wanted:
                return value
        return piped[0] if piped else value

    def _value(self, operand: Operand) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Function):
            return self._command((operand,), ())
        if operand.inner is not None:
            value = self._pipe(operand.inner)
        elif operand.variable is not None:
            value = self._scope_of(operand.variable)[operand.variable]
        else:
            value = self.dot
        for name in operand.path:
            if isinstance(value, Struct) and name not in value:
                raise GoFaultError(f"there is no field {name}")
            if value is not None and not isinstance(value, Mapping):
                raise GoFaultError(f"{shown(value)!r} has no field {name}")
            value = None if value is None else value.get(name)
        return value


def is_true(value: Any) -> bool:
    """Go's truth: nothing, false, zero and whatever is empty are false."""
    return bool(value)


def shown(value: Any) -> str:
    """A value as Go prints it; tools and arguments print as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, dict)):
        return _json(value)
    return str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _printf(pattern: str, *values: Any) -> str:
    left = list(values)

    def write(verb: re.Match[str]) -> str:
        if verb[0] == "%%":
            return "%"
        if not left:
            raise ValueError(f"no value for {verb[0]}")
        value = left.pop(0)
        return json.dumps(shown(value), ensure_ascii=False) if verb[0] == "%q" else shown(value)

    text = re.sub(r"%[svdqt%]", write, pattern)
    if len(text) > MOST_CHARACTERS:
        raise ValueError("too long")
    return text


def _print(*values: Any) -> str:
    return "".join(map(shown, values))


def _slice(value: Any, *bounds: int) -> Any:
    start, stop = (*bounds, len(value))[:2] if bounds else (0, len(value))
    if not 0 <= start <= stop <= len(value):
        raise IndexError("out of range")
    return value[start:stop]


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if not isinstance(value, Mapping) and key < 0:
            raise IndexError("out of range")
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda first, *rest: any(first == other for other in rest),
    "ne": lambda one, other: one != other,
    "lt": lambda one, other: one < other,
    "le": lambda one, other: one <= other,
    "gt": lambda one, other: one > other,
    "ge": lambda one, other: one >= other,
    "not": lambda value: not is_true(value),
    "len": len,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *values: " ".join(map(shown, values)) + "\n",
    "printf": _printf,
    "json": _json,
}
