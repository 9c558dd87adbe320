"""The tables of docs/reference/settings.md, derived from the dataclasses."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt

from harness.data.row_source import DataSource
from harness.docstrings import field_docstrings
from harness.training.config.tree import TrainConfig


def reference() -> str:
    """One table for each section: key, kind, default, description."""
    tree = TrainConfig()
    sections = [f.name for f in fields(tree) if is_dataclass(getattr(tree, f.name))]
    parts = [_table("Top of the file", tree, skip=tuple(sections))]
    parts += [_table(f"`[{name}]`", getattr(tree, name)) for name in sections]
    return "\n\n".join(parts) + "\n"


def _table(title: str, section: Any, skip: tuple[str, ...] = ()) -> str:
    kind = type(section)
    hints = get_type_hints(kind, include_extras=True)
    about = {name: text.replace("|", "\\|") for name, text in field_docstrings(kind).items()}
    rows = [
        f"| `{f.name}` | {_kind(hints[f.name])} | `{_toml(getattr(section, f.name))}` "
        f"| {about[f.name]} |"
        for f in fields(kind)
        if f.name not in skip
    ]
    summary = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    head = ["| key | kind | default | |", "|---|---|---|---|"]
    return "\n".join([f"### {title}", "", summary, "", *head, *rows])


def _kind(hint: Any) -> str:
    """A field's type in words: ``Annotated[float, Gt(0)] | None`` → number > 0."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        text = _kind(args[0]) + "".join(map(_bound, args[1:]))
    elif origin in (Union, UnionType):
        text = _kinds([arg for arg in args if arg is not NoneType])
    elif origin is Literal:
        text = ", ".join(map(str, args))
    elif origin is tuple:
        text = f"list of {_items(args[0])}"
    elif origin is dict:
        text = "table of " + _kind(args[1]).replace("number", "numbers", 1)
    else:
        text = {int: "whole number", float: "number", bool: "true or false"}.get(hint, "text")
    return text


def _items(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "[number, number]"
    if DataSource in get_args(get_args(hint)[0] if get_origin(hint) is Annotated else hint):
        return "paths, path:weight or tables"
    return "texts" if hint is str else _kind(hint)


def _kinds(hints: list[Any]) -> str:
    if hints[0] is bool and len(hints) > 1:
        return "true, false, " + _kinds(hints[1:])
    if get_origin(hints[-1]) is Literal and len(hints) > 1:
        return f"{_kinds(hints[:-1])}, {_kind(hints[-1])}"
    return _kind(hints[-1])


def _bound(extra: Any) -> str:
    if isinstance(extra, Interval):
        return f" ≥ {extra.ge} ≤ {extra.le}"
    for kind, sign in ((Gt, ">"), (Ge, "≥"), (Lt, "<"), (Le, "≤")):
        if isinstance(extra, kind):
            return f" {sign} {getattr(extra, kind.__name__.lower())}"
    return ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value is None:
        return "not set"
    return "{}" if value == {} else f"{value:g}" if isinstance(value, float) else str(value)
