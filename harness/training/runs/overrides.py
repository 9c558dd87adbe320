"""Settings given as ``name=value`` over those of a run.

The last part of a name is enough if no other section has it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, nearest
from harness.training.config import TrainConfig, parse_config
from harness.training.config.recipe_file import RecipeFile, read_recipe_file


def read_setting(text: str, config: TrainConfig) -> tuple[str, str]:
    """``learning_rate=1e-7`` → its full name, optimisation.learning_rate, and the value as text."""
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise HarnessError(
            f"invalid setting {text!r}", hint="give name=value, such as learning_rate=1e-7"
        )
    return whole_name(name.strip(), config), value.strip()


def whole_name(name: str, config: TrainConfig) -> str:
    """The full, dotted name of a setting. Raises HarnessError if it is unknown or ambiguous."""
    known = flat(config.as_dict())
    last_parts = [key.rpartition(".")[2] for key in known]
    matches = [key for key, last in zip(known, last_parts, strict=True) if name in (key, last)]
    if name in known or len(matches) == 1:
        return name if name in known else matches[0]
    if matches:
        raise HarnessError(
            f"{name!r} is in several sections", hint="say which: " + " or ".join(matches)
        )
    raise HarnessError(f"unknown setting {name!r}", hint=nearest(name, [*known, *last_parts]))


def with_settings(
    config: TrainConfig, settings: Mapping[str, str], where: str = "settings"
) -> TrainConfig:
    """The settings with some changed, checked like those of a file.

    Values are read as TOML reads them, words as text.
    """
    table = config.as_dict()
    for name, text in settings.items():
        *sections, leaf = name.split(".")
        home = table
        for section in sections:
            home = home[section]
        home[leaf] = _value(text)
    return parse_config(table, where=where)


def differences(before: TrainConfig, after: TrainConfig) -> dict[str, Any]:
    """The dotted names of the settings that differ, with the later values."""
    old, new = flat(before.as_dict()), flat(after.as_dict())
    return {name: value for name, value in new.items() if old[name] != value}


def short_name(settings: Mapping[str, Any]) -> str:
    """A folder's name that says the settings: ``learning_rate-1e-07_lora_alpha-16``."""
    parts = [f"{name.rpartition('.')[2]}-{as_text(value)}" for name, value in settings.items()]
    return "_".join(
        "".join(c if c.isalnum() or c in "-_." else "-" for c in part) for part in parts
    )


def as_text(value: Any) -> str:
    """A setting's value as a person would write it: 5, not 5.0."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(as_text, value))
    return str(value)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as ``section.key`` → value."""
    by_name: dict[str, Any] = {}
    for key, value in table.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        by_name |= {f"{prefix}{key}": value} if inner is None else inner
    return by_name


def settings_of(
    config: str | Path | Mapping[str, Any] | TrainConfig,
    trainer: str,
    settings: Mapping[str, Any],
    where: str,
) -> tuple[TrainConfig, tuple[str, ...]]:
    """The settings of a call from Python, and the notes on another trainer's file.

    ``settings`` override ``config``, by the last part of their names. Raises HarnessError for every
    mistake, with ``where`` as the place.
    """
    if isinstance(config, str | Path):
        recipe = read_recipe_file(Path(config), trainer)
    elif trainer:
        raise HarnessError(f"{where}: trainer={trainer!r} needs a file")
    elif isinstance(config, TrainConfig):
        recipe = RecipeFile(config)
    else:
        recipe = RecipeFile(parse_config(dict(config)))
    table = recipe.config.as_dict()
    for name, value in settings.items():
        *sections, leaf = whole_name(name, recipe.config).split(".")
        place = table
        for section in sections:
            place = place[section]
        place[leaf] = str(value) if isinstance(value, Path) else value
    chosen = parse_config(table, where=where)
    recipe.refuse_incomplete(chosen, "argument")
    return chosen, tuple(recipe.other.lines()) if recipe.other else ()
