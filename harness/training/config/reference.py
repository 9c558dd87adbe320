"""The tables of docs/reference/settings.md, made of the dataclasses."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from harness.data.schemas import SchemaName
from harness.training.config.sections import ScheduleName
from harness.training.config.tree import TrainConfig


def reference() -> str:
    """One table a section: key, kind, default, what it does."""
    tree = TrainConfig()
    sections = [f.name for f in fields(tree) if is_dataclass(getattr(tree, f.name))]
    parts = [_table("Top of the file", TrainConfig, tree, skip=tuple(sections))]
    parts += [
        _table(f"`[{name}]`", type(getattr(tree, name)), getattr(tree, name)) for name in sections
    ]
    return "\n\n".join(parts) + "\n"


def _table(title: str, kind: type, values: Any, skip: tuple[str, ...] = ()) -> str:
    told = _docstrings(kind)
    rows = [
        f"| `{f.name}` | {_kind(str(f.type))} | `{_toml(getattr(values, f.name))}` | {told[f.name]} |"
        for f in fields(kind)  # a section is a dataclass
        if f.name not in skip
    ]
    summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    return "\n".join(
        [f"### {title}", "", summary, "", "| key | kind | default | |", "|---|---|---|---|", *rows]
    )


def _docstrings(kind: type) -> dict[str, str]:
    """The text under each field, from the source."""
    [definition] = ast.parse(inspect.getsource(kind)).body
    found: dict[str, str] = {}
    name = ""
    for node in definition.body if isinstance(definition, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[name] = str(node.value.value).replace("|", "\\|")
            name = ""
    return found


def _kind(hint: str) -> str:
    """A field's annotation in words: ``Annotated[float, Gt(0)] | None`` → number above 0, or none."""
    if "DataSource" in hint:
        return "list of paths, path:weight or tables"
    if choices := re.findall(r"Literal\[([^]]*)\]", hint):
        words = ", ".join(word.strip().strip("\"'") for word in choices[0].split(","))
        return f"{'list of: ' if hint.startswith('tuple') else ''}{'true, false, ' if 'bool' in hint else ''}{words}"
    if hint in ("SchemaName", "ScheduleName"):
        return ", ".join(get_args({"SchemaName": SchemaName, "ScheduleName": ScheduleName}[hint]))
    if hint.startswith("tuple[tuple"):
        return "list of [number, number]"
    bounds = re.findall(r"(Gt|Ge|Lt|Le)\(([^)]*)\)", hint)
    limits = "".join(
        f" {({'Gt': '>', 'Ge': '≥', 'Lt': '<', 'Le': '≤'})[how]} {value}" for how, value in bounds
    )
    base = next((word for part, word in _BASES if part in hint), "text")
    return base + limits


_BASES = (
    ("dict", "table of numbers"),
    ("tuple", "list of texts"),
    ("int", "whole number"),
    ("float", "number"),
    ("bool", "true or false"),
)


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
