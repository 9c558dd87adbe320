"""TOML and environment → the tree, with every mistake told at once."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from harness.errors import HarnessError, nearest
from harness.training.config.data_sources import DataSource
from harness.training.config.other_trainers import foreign_key, foreign_value
from harness.training.config.tree import TrainConfig

#: A key's variable is this and the key in capitals: HARNESS_TRAIN_LEARNING_RATE.
ENVIRONMENT = "HARNESS_TRAIN_"


def read_config(path: Path, environment: Mapping[str, str] | None = None) -> TrainConfig:
    """Read a TOML file, and over it the variables HARNESS_TRAIN_* of ``environment``.

    Raises one HarnessError that names every mistake of both.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read the settings: {error.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HarnessError(f"not TOML: {error}", where=str(path)) from None
    return _with_environment(table, str(path), environment or {})


def read_environment(environment: Mapping[str, str] = os.environ) -> TrainConfig:
    """The defaults, and over them the variables HARNESS_TRAIN_*."""
    return _with_environment({}, "environment", environment)


def parse_config(table: dict[str, Any], where: str = "settings") -> TrainConfig:
    """Check a table of settings against the tree. Raises one HarnessError that names every mistake in it."""
    config, problems = _parse(table)
    if config is None or problems:
        raise _refusal(problems, where)
    return config


def keys() -> dict[str, str]:
    """Each key's name on the command line and in the environment → its place in the tree, ``section.key``."""
    places: dict[str, str] = {}
    for section, kind in [("", TrainConfig), *_sections().items()]:
        hints = get_type_hints(kind, include_extras=True)
        for f in fields(kind):
            if f.name not in _sections():
                places[_flag(hints[f.name]) or f.name] = (
                    f"{section}.{f.name}" if section else f.name
                )
    return places


def _flag(hint: Any) -> str:
    """The name that tyro.conf.arg gives a field."""
    return next(
        (str(name) for extra in get_args(hint) if (name := getattr(extra, "name", None))), ""
    )


@lru_cache(maxsize=1)
def _sections() -> dict[str, Any]:
    return {
        f.name: f.default_factory
        for f in fields(TrainConfig)
        if f.default_factory is not MISSING and is_dataclass(f.default_factory)
    }


def _with_environment(
    table: dict[str, Any], where: str, environment: Mapping[str, str]
) -> TrainConfig:
    problems: list[str] = []
    places = keys()
    origin: dict[str, str] = {}
    for variable in sorted(name for name in environment if name.startswith(ENVIRONMENT)):
        key = variable.removeprefix(ENVIRONMENT).lower()
        if key not in places:
            problems.append(f"{variable}: no such key ({foreign_key(key) or nearest(key, places)})")
            continue
        section, _, name = places[key].rpartition(".")
        target = table.setdefault(section, {}) if section else table
        if isinstance(target, dict):
            target[name] = _value(environment[variable], section, name)
            origin[places[key]] = variable
    config, found = _parse(table)
    problems += [
        next(
            (
                f"{variable}: {told}"
                for place, variable in origin.items()
                if told.startswith(f"{place} ")
            ),
            told,
        )
        for told in found
    ]
    if config is None or problems:
        raise _refusal(problems, where)
    return config


def _value(text: str, section: str, name: str) -> Any:
    """A variable's text as TOML would give it: JSON where it is a list or a table, else words between commas for a list."""
    default = getattr(_sections()[section]() if section else TrainConfig(), name)
    if text[:1] in "[{":
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return (
        [word.strip() for word in text.split(",") if word.strip()]
        if isinstance(default, tuple)
        else text
    )


def _refusal(problems: list[str], where: str) -> HarnessError:
    unique = list(dict.fromkeys(problems))
    return HarnessError(
        "; ".join(unique),
        where=where,
        hint=f"{len(unique)} mistake{'s' * (len(unique) > 1)}; harness train --help lists every key",
    )


def _parse(table: dict[str, Any]) -> tuple[TrainConfig | None, list[str]]:
    from pydantic import TypeAdapter, ValidationError

    problems = list(_unknown(table, TrainConfig(), ""))
    try:
        config = TypeAdapter(TrainConfig).validate_python(table)
    except ValidationError as error:
        return None, problems + list(_told(error.errors()))
    problems += config.problems()
    for section in _sections():
        part = getattr(config, section)
        problems += [
            f"{section}.{problem}"
            for problem in (part.problems() if hasattr(part, "problems") else ())
        ]
    return config, problems


def _told(errors: list[Any]) -> Iterator[str]:
    """Each mistake once. pydantic tells one for each member of a union: the one that got furthest is meant."""
    places: dict[str, str] = {}
    for item in errors:
        steps = [str(step) for step in item["loc"] if not _is_branch(step)]
        place = ".".join(steps)
        said = f"{item['msg'][0].lower()}{item['msg'][1:]}"
        better = foreign_value(place, item["input"])
        entry = f"{place} = {item['input']!r}: {said}{f' ({better})' if better else ''}"
        places = {old: text for old, text in places.items() if not place.startswith(f"{old}.")}
        if not any(old.startswith(f"{place}.") for old in places):
            places.setdefault(place, entry)
    yield from places.values()


def _is_branch(step: str | int) -> bool:
    """Whether a step of pydantic's path names a member of a union and no key."""
    return isinstance(step, str) and (
        step in ("str", "bool", "int", "float", DataSource.__name__) or "[" in step
    )


def _unknown(table: dict[str, Any], section: Any, prefix: str) -> Iterator[str]:
    """Keys that are none of ours. ``section`` is the part of the tree that the table should be like."""
    known = {f.name: getattr(section, f.name) for f in fields(section)}
    for key, value in table.items():
        if key not in known:
            yield f"unknown key {prefix}{key} ({_offer(key)})"
        elif is_dataclass(known[key]) and isinstance(value, dict):
            yield from _unknown(value, known[key], f"{prefix}{key}.")
        elif prefix + key == "data.train" and isinstance(value, list):
            for number, row in enumerate(value):
                yield from (
                    _unknown(row, DataSource(""), f"data.train.{number}.")
                    if isinstance(row, dict)
                    else ()
                )


def _offer(key: str) -> str:
    elsewhere = [place for place in keys().values() if place.rpartition(".")[2] == key]
    if elsewhere:
        section = elsewhere[0].rpartition(".")[0]
        return f"it stands in [{section}]" if section else "it stands at the top of the file"
    return foreign_key(key) or nearest(key, {place.rpartition(".")[2] for place in keys().values()})
