"""Write settings as the TOML file that gives them: what differs from the defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harness.training.config.tree import TrainConfig


def recipe_toml(config: TrainConfig) -> str:
    """A RUN.toml of these settings. The model and output_dir are always in it."""
    given, usual = config.as_dict(), TrainConfig().as_dict()
    lines = list(_settings(given, usual, always=("model", "output_dir")))
    for section, values in given.items():
        if isinstance(values, dict) and (changed := list(_settings(values, usual[section]))):
            lines += ["", f"[{section}]", *changed]
    return "\n".join(lines) + "\n"


def _settings(
    given: dict[str, Any], usual: dict[str, Any], always: tuple[str, ...] = ()
) -> Iterator[str]:
    for key, value in given.items():
        table = isinstance(value, dict) and isinstance(usual[key], dict) and usual[key]
        if not table and (value != usual[key] or key in always):
            yield f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    """A value in TOML; JSON's strings and numbers are TOML's too."""
    if isinstance(value, dict):
        entries = (f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{{', '.join(entries)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
