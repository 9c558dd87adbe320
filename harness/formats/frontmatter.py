"""The facts about a format, in TOML inside the first Jinja comment of its file."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, nearest
from harness.records import Format

_FRONT = re.compile(r"\A\{#---\n(?P<toml>.*?)\n---#\}\n?", re.DOTALL)
_TEXT = ("family", "system", "system_default", "names", "reasoning", "eos", "origin", "notes")
_LISTS = ("stops", "stop_tokens")
_CLOSED = {
    "system": ("own", "prefix", "first-user", "last-user", "unsupported"),
    "names": ("none", "prefix", "header"),
    "reasoning": ("none", "last-turn"),
}
_KEYS = (*_TEXT, *_LISTS, "roles")


def parse_format(source: str, path: Path) -> Format:
    """Read one format file's text. The id is the file's stem.

    Raises HarnessError naming the file and the key for: no front matter, TOML that does not parse,
    unknown keys, a missing family, a value of the wrong type or outside its closed set.
    """
    source = source.replace("\r\n", "\n")
    front = _FRONT.match(source)
    if front is None:
        raise HarnessError(
            "no front matter", where=str(path), hint="begin the file with {#--- TOML ---#}"
        )
    try:
        facts = tomllib.loads(front["toml"])
    except tomllib.TOMLDecodeError as error:
        raise HarnessError(f"front matter is not TOML: {error}", where=str(path)) from None
    _check(facts, path)
    template = source[front.end() :]
    behaviour = {key: facts.get(key) for key in ("stops", "stop_tokens", "system_default", "names")}
    stamp = json.dumps([template, behaviour], sort_keys=True).encode()
    return Format(
        id=path.stem,
        template=template,
        digest="sha256:" + hashlib.sha256(stamp).hexdigest()[:16],
        path=str(path),
        roles=dict(facts.get("roles", {})),
        stops=tuple(facts.get("stops", ())),
        stop_tokens=tuple(facts.get("stop_tokens", ())),
        **{key: facts[key] for key in _TEXT if key in facts},
    )


def _check(facts: dict[str, Any], path: Path) -> None:
    for key, value in facts.items():
        place = f"{path}:{key}"
        if key not in _KEYS:
            raise HarnessError(
                f"unknown key {key!r} in the front matter", where=place, hint=nearest(key, _KEYS)
            )
        if key in _TEXT and not isinstance(value, str):
            raise HarnessError(f"{value!r} is not text", where=place)
        if key in _LISTS and not (
            isinstance(value, list) and all(isinstance(v, str) and v for v in value)
        ):
            raise HarnessError(f"{value!r} is not a list of non-empty texts", where=place)
        if key == "roles" and not (
            isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        ):
            raise HarnessError(f"{value!r} is not a table of role = header text", where=place)
        if key in _CLOSED and value not in _CLOSED[key]:
            raise HarnessError(f"{value!r} is not one of {', '.join(_CLOSED[key])}", where=place)
    if not facts.get("family"):
        raise HarnessError(
            "the front matter names no family", where=str(path), hint='add: family = "…"'
        )
