"""The docstrings under the fields of a dataclass: the text of help and reference pages."""

from __future__ import annotations

import ast
import inspect


def field_docstrings(kind: type) -> dict[str, str]:
    """Field → the text under it in the source, as one line."""
    [definition] = ast.parse(inspect.getsource(kind)).body
    found: dict[str, str] = {}
    name = ""
    for node in definition.body if isinstance(definition, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[name] = " ".join(str(node.value.value).split())
            name = ""
    return found
