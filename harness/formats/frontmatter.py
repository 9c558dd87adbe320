"""Facts about a format, in TOML inside the first Jinja comment of its file."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError, nearest, validation_error
from harness.records import Format

_FRONT = re.compile(r"\A\{#---\n(?P<toml>.*?)\n---#\}\n?", re.DOTALL)

Text = Annotated[str, Field(min_length=1)]


class FrontMatter(BaseModel):
    """Everything that a format's file may say about it besides its template."""

    model_config = ConfigDict(extra="forbid")

    family: Text
    system: Literal["own", "prefix", "first-user", "last-user", "unsupported"] = "own"
    system_default: str = ""
    names: Literal["none", "prefix", "header"] = "none"
    reasoning: Literal["none", "last-turn"] = "none"
    stops: list[Text] = []
    stop_tokens: list[Text] = []
    roles: dict[str, str] = {}
    eos: str = ""
    origin: str = ""
    notes: str = ""


def parse_format(source: str, path: Path) -> Format:
    """Read one format file's text. The format's id is the file's stem.

    Raises HarnessError naming the file and the key for: no front matter, TOML that does not parse,
    an unknown key, a missing family, a value of the wrong type or outside its closed set.
    """
    source = source.replace("\r\n", "\n")
    front = _FRONT.match(source)
    if front is None:
        raise HarnessError(
            "no front matter", where=str(path), hint="begin the file with {#--- TOML ---#}"
        )
    try:
        facts = FrontMatter.model_validate(tomllib.loads(front["toml"]))
    except tomllib.TOMLDecodeError as error:
        raise HarnessError(f"front matter is not TOML: {error}", where=str(path)) from None
    except ValidationError as error:
        raise _mistake(error, path) from None
    template = source[front.end() :]
    given = facts.model_dump(exclude_unset=True)
    behaviour = {key: given.get(key) for key in ("stops", "stop_tokens", "system_default", "names")}
    stamp = json.dumps([template, behaviour], sort_keys=True).encode()
    return Format(
        id=path.stem,
        template=template,
        digest="sha256:" + hashlib.sha256(stamp).hexdigest()[:16],
        path=str(path),
        **{**dict(facts), "stops": tuple(facts.stops), "stop_tokens": tuple(facts.stop_tokens)},
    )


def write_front_matter(facts: Mapping[str, str | Sequence[str]], roles: Mapping[str, str]) -> str:
    """The comment that begins a format's file. JSON's strings and lists are TOML's too."""
    lines = [
        "{#---",
        *map(_line, facts.items()),
        "",
        "[roles]",
        *map(_line, roles.items()),
        "---#}",
    ]
    return "\n".join(lines) + "\n"


def _line(fact: tuple[str, str | Sequence[str]]) -> str:
    return f"{fact[0]} = {json.dumps(fact[1], ensure_ascii=False)}"


def _mistake(error: ValidationError, path: Path) -> HarnessError:
    """The first mistake, with the nearest key for one that is unknown."""
    first = error.errors()[0]
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        hint = nearest(key, FrontMatter.model_fields)
        return HarnessError(f"unknown key {key!r} in the front matter", f"{path}:{key}", hint)
    return validation_error(error, str(path), 'add: family = "…"' if key == "family" else "")
