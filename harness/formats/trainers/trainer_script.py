"""Settings in a Python script or notebook: literal arguments of calls. Nothing of it is run.

``SFTConfig(assistant_only_loss=True)`` and ``train_on_responses_only(trainer, …)`` are how TRL and
unsloth are set up in most places.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

#: Calls whose keywords are settings.
_CALLS = {
    "SFTConfig",
    "SFTTrainer",
    "TrainingArguments",
    "train_on_responses_only",
    "from_pretrained",
    "load_dataset",
    "LoraConfig",
    "get_peft_model",
    "BitsAndBytesConfig",
}
#: Settings that such a call takes by position.
_POSITIONAL = {
    "train_on_responses_only": {1: "instruction_part", 2: "response_part"},
    "from_pretrained": {0: "model_name"},
}


def script_settings(text: str, *, notebook: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The settings of a script, and the names of those that are computed and so not known.

    The last value of a setting wins. A name that is assigned a literal is looked up. Raises
    SyntaxError, and ValueError for a file that is not a notebook.
    """
    tree = ast.parse(_cells(text) if notebook else text)
    literals = dict(_assigned(tree))
    found: dict[str, Any] = {}
    unknown: list[str] = []
    for call in ast.walk(tree):
        name = _name(call.func) if isinstance(call, ast.Call) else ""
        if not isinstance(call, ast.Call) or name not in _CALLS:
            continue
        found.setdefault("calls", []).append(name)
        for key, value in _arguments(call, name):
            try:
                found[key] = _value(value, literals)
            except ValueError:
                unknown.append(key)
    return found, unknown


def _cells(text: str) -> str:
    """The code of a notebook; lines for the shell and for the notebook itself are left out."""
    cells = json.loads(text).get("cells", [])
    lines = [
        line
        for cell in cells
        if cell.get("cell_type") == "code"
        for line in "".join(cell.get("source", [])).splitlines()
    ]
    return "\n".join("" if line.lstrip().startswith(("!", "%")) else line for line in lines)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _arguments(call: ast.Call, name: str) -> Iterator[tuple[str, ast.expr]]:
    for at, value in enumerate(call.args):
        if key := _POSITIONAL.get(name, {}).get(at):
            yield key, value
    yield from ((each.arg, each.value) for each in call.keywords if each.arg)


def _assigned(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """Names that a literal is assigned to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                yield node.targets[0].id, ast.literal_eval(node.value)
            except ValueError:
                continue


def _value(node: ast.expr, literals: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name) and node.id in literals:
        return literals[node.id]
    return ast.literal_eval(node)
