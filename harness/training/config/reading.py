"""Read TOML and environment into the tree of settings, and report all mistakes together."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from harness.data.row_source import DataSource
from harness.errors import HarnessError, nearest
from harness.files import read_text
from harness.run_file import is_trained
from harness.training.config.other_names import explain_key, explain_value, without_removed
from harness.training.config.tree import TrainConfig

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_INIT = "harness train RUN.toml --init writes one"
_DATA = f"this looks like data: name it in [data] train of a RUN.toml; {_INIT}"
#: Endings of files of rows, which are given in place of settings.
_ROWS = (".jsonl", ".parquet")

#: A key's variable is this and the key in capitals: HARNESS_TRAIN_LEARNING_RATE.
ENVIRONMENT = "HARNESS_TRAIN_"


def read_config(path: Path, environment: Mapping[str, str] | None = None) -> TrainConfig:
    """Read a TOML file; variables HARNESS_TRAIN_* of ``environment`` override it.

    Raises one HarnessError that names every mistake of both.
    """
    if path.is_dir():
        raise HarnessError(
            "a folder, where a TOML file of settings is expected",
            where=str(path),
            hint=f"harness resume {path}" if is_trained(path) else _INIT,
        )
    if not path.exists():
        raise HarnessError(
            "no such file", where=str(path), hint=f"harness train {path} --init writes one"
        )
    try:
        table = tomllib.loads(read_text(path, "settings"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise HarnessError(
            f"not TOML: {error}", where=str(path), hint=_DATA if path.suffix in _ROWS else ""
        ) from None
    if not table and not any(name.startswith(ENVIRONMENT) for name in environment or {}):
        raise HarnessError(
            "the file sets nothing",
            where=str(path),
            hint=f"harness train {path} --init --force writes a commented recipe into it",
        )
    return with_environment(table, str(path), environment or {})


def read_environment(environment: Mapping[str, str] = os.environ) -> TrainConfig:
    """The defaults, overridden by the variables HARNESS_TRAIN_*. Raises as ``read_config``."""
    return with_environment({}, "environment", environment)


def parse_config(table: dict[str, Any], where: str = "settings") -> TrainConfig:
    """Check a table of settings against the tree.

    Raises one HarnessError that names every mistake in it.
    """
    config, problems = _parse(table)
    if config is None or problems:
        raise _refusal(problems, where)
    return config


def parse_recorded(table: dict[str, Any], where: str) -> TrainConfig:
    """The settings that a run recorded, by this version or an earlier one.

    A run from before data.controls set no rows aside. Raises HarnessError when a setting that was
    removed had a value that is no longer possible.
    """
    recorded = without_removed(table)
    recorded.setdefault("data", {}).setdefault("controls", 0)
    return parse_config(recorded, where)


def keys() -> dict[str, str]:
    """Name on the command line and in the environment → place in the tree, ``section.key``."""
    places: dict[str, str] = {}
    for section, kind in [("", TrainConfig), *_sections().items()]:
        hints = get_type_hints(kind, include_extras=True)
        for f in fields(kind):
            if f.name not in _sections():
                name = _flag(hints[f.name]) or f.name
                places[name] = f"{section}.{f.name}" if section else f.name
    return places


def _flag(hint: Any) -> str:
    """The name that tyro.conf.arg gives a field."""
    names = (getattr(extra, "name", None) for extra in get_args(hint))
    return next((str(name) for name in names if name), "")


@lru_cache(maxsize=1)
def _sections() -> dict[str, Any]:
    return {
        f.name: f.default_factory
        for f in fields(TrainConfig)
        if f.default_factory is not MISSING and is_dataclass(f.default_factory)
    }


def with_environment(
    table: dict[str, Any], where: str, environment: Mapping[str, str]
) -> TrainConfig:
    """A table of settings, overridden by variables HARNESS_TRAIN_*. Raises as ``read_config``."""
    problems: list[str] = []
    places = keys()
    origin: dict[str, str] = {}
    for variable in sorted(name for name in environment if name.startswith(ENVIRONMENT)):
        key = variable.removeprefix(ENVIRONMENT).lower()
        if key not in places:
            problems.append(f"{variable}: no such key ({explain_key(key) or nearest(key, places)})")
            continue
        section, _, name = places[key].rpartition(".")
        target = table.setdefault(section, {}) if section else table
        if isinstance(target, dict):
            target[name] = _value(environment[variable], section, name)
            origin[places[key]] = variable
    config, mistakes = _parse(table)
    for problem in mistakes:
        variable = next((origin[place] for place in origin if problem.startswith(f"{place} ")), "")
        problems.append(f"{variable}: {problem}" if variable else problem)
    if config is None or problems:
        raise _refusal(problems, where)
    return config


def _value(text: str, section: str, name: str) -> Any:
    """A variable's text as TOML would give it: JSON, or for a list words between commas."""
    default = getattr(_sections()[section]() if section else TrainConfig(), name)
    if text[:1] in "[{":
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    if isinstance(default, tuple):
        return [word.strip() for word in text.split(",") if word.strip()]
    return text


def _refusal(problems: list[str], where: str) -> HarnessError:
    unique = list(dict.fromkeys(problems))
    count = f"{len(unique)} mistake{'s' * (len(unique) > 1)}"
    hint = f"{count}; harness train --help lists every key"
    return HarnessError("; ".join(unique), where=where, hint=hint)


def _parse(table: dict[str, Any]) -> tuple[TrainConfig | None, list[str]]:
    from pydantic import ValidationError

    problems = list(_unknown(table, TrainConfig(), ""))
    try:
        config = _validator().validate_python(table)
    except ValidationError as error:
        return None, problems + list(_messages(error.errors()))
    problems += _not_finite(asdict(config), "")
    problems += config.problems()
    for section in _sections():
        part = getattr(config, section)
        if hasattr(part, "problems"):
            problems += [f"{section}.{problem}" for problem in part.problems()]
    return config, problems


@lru_cache(maxsize=1)
def _validator() -> TypeAdapter[TrainConfig]:
    """Built once: the schema of all sections takes longer than reading a recipe."""
    from pydantic import TypeAdapter

    return TypeAdapter(TrainConfig)


def _not_finite(value: Any, place: str) -> Iterator[str]:
    """Each number of the tree that is NaN or infinite."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _not_finite(each, f"{place}.{key}" if place else key)
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from _not_finite(each, f"{place}.{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{place} = {value!r}: expected a finite number"


def _messages(errors: list[Any]) -> Iterator[str]:
    """Each mistake once. pydantic has one for each member of a union: the deepest is meant."""
    places: dict[str, str] = {}
    for item in errors:
        steps = [str(step) for step in item["loc"] if not _is_branch(step)]
        place = ".".join(steps)
        message = f"{item['msg'][0].lower()}{item['msg'][1:]}"
        if item["type"] == "literal_error" and place in places:  # a switch with further values
            message = f"expected true, false or {item['ctx']['expected']}"
            del places[place]
        better = explain_value(place, item["input"])
        entry = f"{place} = {item['input']!r}: {message}{f' ({better})' if better else ''}"
        places = {old: text for old, text in places.items() if not place.startswith(f"{old}.")}
        if not any(old.startswith(f"{place}.") for old in places):
            places.setdefault(place, entry)
    yield from places.values()


def _is_branch(step: str | int) -> bool:
    """Whether a step of pydantic's path names a member of a union, not a key."""
    return isinstance(step, str) and (
        step in ("str", "bool", "int", "float", DataSource.__name__) or "[" in step
    )


def _unknown(table: dict[str, Any], section: Any, prefix: str) -> Iterator[str]:
    """Keys of ``table`` that its part of the tree does not have."""
    known = {f.name: getattr(section, f.name) for f in fields(section)}
    for key, value in table.items():
        if key not in known:
            yield f"unknown key {prefix}{key} ({_instead(key)})"
        elif is_dataclass(known[key]) and isinstance(value, dict):
            yield from _unknown(value, known[key], f"{prefix}{key}.")
        elif prefix + key == "data.train" and isinstance(value, list):
            for number, row in enumerate(value):
                if isinstance(row, dict):
                    yield from _unknown(row, DataSource(""), f"data.train.{number}.")


def _instead(key: str) -> str:
    sections = {place.rpartition(".")[2]: place.rpartition(".")[0] for place in keys().values()}
    if key in sections:
        section = sections[key]
        return f"it belongs to [{section}]" if section else "it belongs at the top of the file"
    return explain_key(key) or nearest(key, sections)
