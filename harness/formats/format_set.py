"""A folder of ``*.jinja`` files as the registry of formats: no code branches on a name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, nearest
from harness.files import read_text
from harness.formats.frontmatter import has_front_matter, parse_format, stamp
from harness.formats.guard import check_template
from harness.records import Format
from harness.resources import data_dir

SETS_FILE = "sets.toml"
_SUFFIX = ".jinja"
#: The set that is evaluated and trained by default.
COMMON = "common"


class FormatSet(Mapping[str, Format]):
    """The known formats by id, sorted. An unknown id raises HarnessError with the nearest names.

    ``sets`` are named selections; ``own`` are the ids that came from the user's folders.
    """

    def __init__(
        self,
        formats: Iterable[Format],
        sets: Mapping[str, Sequence[str]] | None = None,
        own: Iterable[str] = (),
    ) -> None:
        by_id = {each.id: each for each in formats}
        self._by_id = {format_id: by_id[format_id] for format_id in sorted(by_id)}
        self.sets = {
            "all": tuple(self._by_id),
            **{name: tuple(ids) for name, ids in (sets or {}).items()},
        }
        self.own = tuple(own)

    def __getitem__(self, format_id: str) -> Format:
        if format_id in self._by_id:
            return self._by_id[format_id]
        name, *choices = format_id.split(":")
        if name in self._by_id:
            return with_switches(self._by_id[name], choices)
        known = nearest(format_id, [*self._by_id, *self.sets], "see: harness formats list")
        hint = "separate formats by commas" if len(format_id.split()) > 1 else known
        raise HarnessError(f"unknown format {format_id!r}", hint=hint)

    def __contains__(self, format_id: object) -> bool:
        """Whether a format has this id, or the part of it before its switches."""
        return isinstance(format_id, str) and format_id.partition(":")[0] in self._by_id

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        shown = [*self._by_id][:3] + ["…"] * (len(self) > 3)
        return f"FormatSet({len(self)} formats: {', '.join(shown)})"

    def add(self, chat_format: Format) -> None:
        """Take in one more format, such as a model's own template."""
        self._by_id[chat_format.id] = chat_format

    @property
    def default(self) -> tuple[str, ...]:
        """The names selected by default: the common formats and all of the user's own."""
        return (COMMON, *self.own)

    def select(self, names: Iterable[str]) -> list[Format]:
        """The formats with these names, in the order given, each once.

        A name is an id, a set (``common``, ``all``), a glob (``llama*``), an id with switches of
        its template (``qwen3:enable_thinking=false``), a file (``my.jinja``: a format or anybody's
        chat template, which is then kept as it is), or a sample of the grammar
        (``grammar:200:seed=7``). Raises HarnessError for an unknown id or switch, a glob without a
        match and an invalid sample.
        """
        chosen = {
            chat_format.id: chat_format for name in names for chat_format in self._named(name)
        }
        return list(chosen.values())

    def _named(self, name: str) -> list[Format]:
        if name.startswith("grammar:"):
            from harness.formats.grammar.sample import sample_by_name

            return sample_by_name(name)
        if name.endswith(_SUFFIX):
            chat_format = load_format(Path(name))
            self.add(chat_format)
            return [chat_format]
        if name in self.sets and name not in self:
            return [self[format_id] for format_id in self.sets[name]]
        if not any(mark in name for mark in "*?["):
            return [self[name]]
        matches = [self[format_id] for format_id in self if fnmatchcase(format_id, name)]
        if not matches:
            raise HarnessError(f"no format matches {name!r}", hint="see: harness formats list")
        return matches


def with_switches(chat_format: Format, choices: Sequence[str]) -> Format:
    """The format with switches of its template set, each ``name=value``. They join its id.

    Raises HarnessError for a switch that the format does not have, and for another value than those
    of its front matter (an empty list there admits any text).
    """
    variables = dict(chat_format.variables)
    for choice in choices:
        name, given, text = choice.partition("=")
        if name not in chat_format.switches or not given:
            known = ", ".join(chat_format.switches) or "none"
            raise HarnessError(
                f"format {chat_format.id} has no switch {choice!r}",
                hint=f"{nearest(name, list(chat_format.switches))} (its switches: {known})".strip(),
            )
        variables[name] = _value(chat_format, name, text)
    return replace(
        chat_format,
        id=":".join([chat_format.id, *choices]),
        variables=variables,
        digest=stamp([chat_format.digest, variables]),
    )


def with_thinking(chat_format: Format, on: bool) -> Format:
    """The format, under its own id, as its owner renders it with thinking switched on or off.

    Raises HarnessError where it has no place for thoughts, and where no switch decides it.
    """
    if chat_format.reasoning == "none":
        raise HarnessError(f"format {chat_format.id} has no place for a thought")
    if chat_format.thinks == on:
        return chat_format
    if not chat_format.thoughts_off:
        raise HarnessError(f"format {chat_format.id} has no switch for its thoughts")
    chosen = dict(chat_format.thoughts_off)
    if on:
        chosen = {
            name: next(value for value in chat_format.switches[name] if value != off)
            for name, off in chosen.items()
        }
    switched = with_switches(chat_format, [f"{name}={_spelt(chosen[name])}" for name in chosen])
    return replace(switched, id=chat_format.id)


def _value(chat_format: Format, name: str, text: str) -> Any:
    values = chat_format.switches[name]
    if not values:
        return text
    by_text = {_spelt(value): value for value in values}
    if text not in by_text:
        raise HarnessError(
            f"format {chat_format.id}: {name} cannot be {text!r}",
            hint=f"one of {', '.join(by_text)}",
        )
    return by_text[text]


def _spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def load_format(path: Path, *, shipped: bool = False) -> Format:
    """Read one format file. One that is not ``shipped`` is checked, and its template too.

    A chat template without front matter is kept as it is: its facts are found by probing. Raises
    HarnessError with file and line for a file that is invalid or whose template does not compile or
    does harm (harness.formats.guard).
    """
    source = read_text(path, "format")
    if not shipped and not has_front_matter(source):
        from harness.formats.kept.keeping import keep_template

        format_id = "".join(c if c.isalnum() or c in "._-" else "-" for c in path.stem.lower())
        return keep_template(source, format_id, where=str(path), origin=path.name).format
    chat_format = parse_format(source, path, checked=not shipped, trusted=shipped)
    if not shipped:
        front = source.replace("\r\n", "\n").removesuffix(chat_format.template)
        check_template(chat_format.template, str(path), 1 + front.count("\n"))
    return chat_format


def load_formats(*extra_dirs: Path) -> FormatSet:
    """The shipped formats and those of the user's folders, which win where an id occurs twice.

    The user's files are checked here, so that a mistake is reported before any work. The shipped
    ones are checked by the tests, and their templates compiled when they are first rendered. Raises
    HarnessError for a folder without formats, and as ``load_format`` for the user's files.
    """
    shipped = data_dir("formats")
    formats: dict[str, Format] = {}
    for folder in (shipped, *extra_dirs):
        if not folder.is_dir():
            wrong = "a file, where a folder of formats is expected" if folder.exists() else ""
            raise HarnessError(wrong or "no such folder of formats", where=str(folder))
        paths = sorted(file for file in folder.iterdir() if file.suffix == ".jinja")
        if not paths:
            raise HarnessError("the folder holds no *.jinja file", where=str(folder))
        for path in paths:
            formats[path.stem] = load_format(path, shipped=folder == shipped)
    own = [each.id for each in formats.values() if not each.trusted]
    sets = tomllib.loads((shipped / SETS_FILE).read_text(encoding="utf-8"))
    return FormatSet(formats.values(), sets, own)
