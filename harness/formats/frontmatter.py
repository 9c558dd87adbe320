"""Facts about a format, in TOML inside the first Jinja comment of its file."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import MinLen

from harness.conversation import NO_MARKS, AnswerMarks, CallMarks
from harness.errors import HarnessError, nearest, validation_error
from harness.records import Format, KeptTemplate

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

_FRONT = re.compile(r"\A\{#---\n(?P<toml>.*?)\n---#\}\n?", re.DOTALL)

Text = Annotated[str, MinLen(1)]


@dataclass(frozen=True)
class FrontMatter:
    """Everything that a format's file may say about it besides its template."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    family: Text
    system: Literal["own", "prefix", "first-user", "last-user", "unsupported"] = "own"
    system_default: str = ""
    names: Literal["none", "prefix", "header"] = "none"
    reasoning: Literal["none", "last-turn", "all-turns", "by-position"] = "none"
    thoughts_off: dict[str, Any] = field(default_factory=dict)
    tools: Literal["none", "own"] = "none"
    stops: list[Text] = field(default_factory=list)
    stop_tokens: list[Text] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    thoughts: AnswerMarks = NO_MARKS
    calls: CallMarks | None = None
    content: AnswerMarks = NO_MARKS
    switches: dict[str, list[Any]] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    kept: KeptTemplate | None = None
    eos: str = ""
    origin: str = ""
    notes: str = ""


def has_front_matter(source: str) -> bool:
    """Whether a file's text begins with the facts of a format."""
    return _FRONT.match(source.replace("\r\n", "\n")) is not None


def parse_format(source: str, path: Path, *, checked: bool = True, trusted: bool = False) -> Format:
    """Read one format file's text. The format's id is the file's stem.

    Raises HarnessError naming the file and the key for: no front matter, TOML that does not parse,
    an unknown key, a missing family, a value of the wrong type or outside its closed set. With
    ``checked=False``, for files that the tests have checked, the last four are not looked for, and
    pydantic is not imported: that takes longer than to read all shipped formats. A ``trusted``
    template is one of ours.
    """
    source = source.replace("\r\n", "\n")
    front = _FRONT.match(source)
    if front is None:
        raise HarnessError(
            "no front matter", where=str(path), hint="begin the file with {#--- TOML ---#}"
        )
    try:
        given = tomllib.loads(front["toml"])
    except tomllib.TOMLDecodeError as error:
        raise HarnessError(f"front matter is not TOML: {error}", where=str(path)) from None
    if checked:
        _check(given, path)
    template = source[front.end() :]
    behaviour = {key: given.get(key) for key in ("stops", "stop_tokens", "system_default", "names")}
    behaviour |= {key: given[key] for key in (*_TABLES, "variables") if key in given}
    facts = vars(FrontMatter(**{**given, **_tables(given)}))
    return Format(
        id=path.stem,
        template=template,
        digest=stamp([template, behaviour]),
        path=str(path),
        trusted=trusted,
        thought_marks=facts.pop("thoughts"),
        call_marks=facts.pop("calls"),
        content_marks=facts.pop("content"),
        **{**facts, "stops": tuple(facts["stops"]), "stop_tokens": tuple(facts["stop_tokens"])},
    )


def stamp(facts: Any) -> str:
    """The digest of what decides how a format renders and how its answers are read."""
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


_TABLES: dict[str, Any] = {
    "thoughts": AnswerMarks,
    "calls": CallMarks,
    "content": AnswerMarks,
    "kept": KeptTemplate,
}


def _tables(given: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of marks, and of how a template is kept, as records."""
    return {key: record(**given[key]) for key, record in _TABLES.items() if key in given}


def write_front_matter(
    facts: Mapping[str, Any], roles: Mapping[str, str], **tables: Mapping[str, Any]
) -> str:
    """The comment that begins a format's file: facts, ``[roles]`` and further tables.

    JSON's strings, numbers and booleans are TOML's too.
    """
    lines = ["{#---", *map(_line, facts.items())]
    for name, table in {"roles": roles, **tables}.items():
        lines += ["", f"[{name}]", *map(_line, table.items())]
    return "\n".join([*lines, "---#}"]) + "\n"


def _line(fact: tuple[str, Any]) -> str:
    return f"{fact[0]} = {_toml(fact[1])}"


def _toml(value: Any) -> str:
    """A value as TOML writes it on one line: as JSON, but for objects."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


@functools.cache
def _adapter() -> TypeAdapter[FrontMatter]:
    from pydantic import TypeAdapter

    return TypeAdapter(FrontMatter)


def _check(given: dict[str, Any], path: Path) -> None:
    from pydantic import ValidationError

    try:
        _adapter().validate_python(given)
    except ValidationError as error:
        raise _mistake(error, path) from None
    switches = given.get("switches", {})
    for name, off in given.get("thoughts_off", {}).items():
        values = switches.get(name, [])
        if off not in values or all(value == off for value in values):
            raise HarnessError(
                f"{name} needs a switch with the value {_toml(off)} and another one",
                where=f"{path}:thoughts_off",
                hint=f"add to [switches], the default first: {name} = [{_toml(off)}, …]",
            )


def _mistake(error: ValidationError, path: Path) -> HarnessError:
    """The first mistake, with the nearest key for one that is unknown."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    if first["type"] == "unexpected_keyword_argument":
        hint = nearest(key, [fact.name for fact in fields(FrontMatter)])
        return HarnessError(f"unknown key {key!r} in the front matter", f"{path}:{key}", hint)
    return validation_error(error, str(path), 'add: family = "…"' if key == "family" else "")
