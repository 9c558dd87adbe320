"""A folder of ``*.jinja`` files as the registry of formats: no code branches on a name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import HarnessError, nearest
from harness.files import read_text
from harness.formats.frontmatter import parse_format
from harness.formats.guard import check_template
from harness.records import Format
from harness.resources import data_dir

SETS_FILE = "sets.toml"
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
        try:
            return self._by_id[format_id]
        except KeyError:
            raise HarnessError(
                f"unknown format {format_id!r}", hint=nearest(format_id, [*self._by_id, *self.sets])
            ) from None

    def __contains__(self, format_id: object) -> bool:
        return format_id in self._by_id

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        shown = [*self._by_id][:3] + ["…"] * (len(self) > 3)
        return f"FormatSet({len(self)} formats: {', '.join(shown)})"

    @property
    def default(self) -> tuple[str, ...]:
        """The names selected by default: the common formats and all of the user's own."""
        return (COMMON, *self.own)

    def select(self, names: Iterable[str]) -> list[Format]:
        """The formats with these names, in the order given, each once.

        A name is an id, a set (``common``, ``all``), a glob (``llama*``) or a sample of the grammar
        (``grammar:200:seed=7``). Raises HarnessError for an unknown id, a glob without a match and
        an invalid sample.
        """
        chosen = {
            chat_format.id: chat_format for name in names for chat_format in self._named(name)
        }
        return list(chosen.values())

    def _named(self, name: str) -> list[Format]:
        if name.startswith("grammar:"):
            from harness.formats.grammar.sample import sample_by_name

            return sample_by_name(name)
        if name in self.sets and name not in self:
            return [self[format_id] for format_id in self.sets[name]]
        if not any(mark in name for mark in "*?["):
            return [self[name]]
        matches = [self[format_id] for format_id in self if fnmatchcase(format_id, name)]
        if not matches:
            raise HarnessError(f"no format matches {name!r}", hint="see: harness formats list")
        return matches


def load_format(path: Path, *, shipped: bool = False) -> Format:
    """Read one format file. One that is not ``shipped`` is checked, and its template too.

    Raises HarnessError with file and line for a file that is invalid or whose template does not
    compile or does harm (harness.formats.guard).
    """
    source = read_text(path, "format")
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
            raise HarnessError("no such folder of formats", where=str(folder))
        paths = sorted(folder.glob("*.jinja"))
        if not paths:
            raise HarnessError("the folder holds no *.jinja file", where=str(folder))
        for path in paths:
            formats[path.stem] = load_format(path, shipped=folder == shipped)
    own = [each.id for each in formats.values() if not each.trusted]
    sets = tomllib.loads((shipped / SETS_FILE).read_text(encoding="utf-8"))
    return FormatSet(formats.values(), sets, own)
