"""Settings given as ``name=value`` on top of a run's own: the last part of a name is enough where it is the only one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import HarnessError, nearest
from harness.training.config import TrainConfig, parse_config


def read_setting(text: str, config: TrainConfig) -> tuple[str, str]:
    """``learning_rate=1e-7`` → its whole name ("optimisation.learning_rate") and the value as text."""
    name, found, value = text.partition("=")
    if not found or not value:
        raise HarnessError(f"{text!r} is no setting", hint="give name=value, as learning_rate=1e-7")
    return whole_name(name.strip(), config), value.strip()


def whole_name(name: str, config: TrainConfig) -> str:
    """The dotted name of a setting. Raises HarnessError for one that is unknown or stands in several sections."""
    known = _flat(config.as_dict())
    found = [key for key in known if key == name] or [
        key for key in known if key.rpartition(".")[2] == name
    ]
    if len(found) > 1:
        raise HarnessError(
            f"{name!r} stands in several sections", hint="say which: " + " or ".join(found)
        )
    if not found:
        raise HarnessError(
            f"unknown setting {name!r}",
            hint=nearest(name, [*known, *(key.rpartition(".")[2] for key in known)]),
        )
    return found[0]


def with_settings(
    config: TrainConfig, settings: Mapping[str, str], where: str = "settings"
) -> TrainConfig:
    """The settings with some changed, checked as a file's are. Values are read as TOML reads them, words as text."""
    table = config.as_dict()
    for name, text in settings.items():
        *sections, leaf = name.split(".")
        home = table
        for section in sections:
            home = home[section]
        home[leaf] = _value(text)
    return parse_config(table, where=where)


def differences(before: TrainConfig, after: TrainConfig) -> dict[str, Any]:
    """The dotted names of what differs, with the later values."""
    old, new = _flat(before.as_dict()), _flat(after.as_dict())
    return {name: value for name, value in new.items() if old[name] != value}


def short_name(settings: Mapping[str, Any]) -> str:
    """A folder's name that tells the settings: ``learning_rate-1e-07_lora_alpha-16``."""
    parts = [f"{name.rpartition('.')[2]}-{as_text(value)}" for name, value in settings.items()]
    return "_".join(
        "".join(c if c.isalnum() or c in "-_." else "-" for c in part) for part in parts
    )


def as_text(value: Any) -> str:
    """A setting's value as a person would write it: 5, not 5.0."""
    if isinstance(value, float):
        return f"{value:g}"
    return (
        ",".join(map(as_text, value))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else str(value)
    )


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat
