"""Write settings as the TOML file that gives them, short or with comments."""

from __future__ import annotations

import functools
import json
import textwrap
from collections.abc import Iterator
from typing import Any

from harness.docstrings import field_docstrings
from harness.training.config.tree import TrainConfig

#: The keys that most runs decide on. The commented recipe has them all, whatever their value.
MAIN = (
    *("model", "output_dir", "adapter.lora_r", "adapter.lora_alpha"),
    *("quantisation.load_in_4bit", "data.train", "data.max_length", "data.controls"),
    "data.forged_turns",
    *("formats.train", "formats.held_out", "optimisation.learning_rate"),
    *("optimisation.num_train_epochs", "optimisation.per_device_train_batch_size"),
    *("optimisation.gradient_accumulation_steps", "schedule.lr_scheduler_type"),
    *("schedule.warmup_ratio", "checkpoints.save_steps"),
)


def recipe_toml(config: TrainConfig) -> str:
    """A RUN.toml of these settings. The model and output_dir are always in it."""
    given, usual = config.as_dict(), TrainConfig().as_dict()
    lines = list(_settings(given, usual, always=("model", "output_dir")))
    for section, values in given.items():
        if isinstance(values, dict) and (changed := list(_settings(values, usual[section]))):
            lines += ["", f"[{section}]", *changed]
    return "\n".join(lines) + "\n"


def commented_toml(config: TrainConfig) -> str:
    """A RUN.toml with the keys that most runs decide on and what differs from the defaults.

    Above each key is a comment that says what it does.
    """
    given, usual = config.as_dict(), TrainConfig().as_dict()
    lines = [
        "# A recipe for harness train. Try it first: harness train RUN.toml --dry-run",
        "# Keys that are not here have their default: harness train --help lists all of them.",
    ]
    lines += _explained(config, given, usual, "")
    for section, values in given.items():
        if isinstance(values, dict):
            part = _explained(getattr(config, section), values, usual[section], f"{section}.")
            lines += ["", f"[{section}]", *part[1:]] if part else []
    return "\n".join(lines) + "\n"


def _explained(
    config: Any, given: dict[str, Any], usual: dict[str, Any], section: str
) -> list[str]:
    """The lines of one section, an empty one before each key."""
    kind: type = type(config)
    about, lines = _about(kind), list[str]()
    for line in _settings(given, usual, tuple(name for name in given if section + name in MAIN)):
        text = textwrap.wrap(about.get(line.split(" = ")[0], ""), 94)
        lines += ["", *(f"# {part}" for part in text), line]
    return lines


@functools.cache
def _about(kind: Any) -> dict[str, str]:
    return field_docstrings(kind)


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
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
