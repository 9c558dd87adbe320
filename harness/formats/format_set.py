"""The folder is the registry: every ``*.jinja`` in it is a format, and no code branches on a name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import HarnessError, nearest
from harness.formats.frontmatter import parse_format
from harness.formats.guard import refuse_harmful
from harness.records import Format
from harness.resources import data_dir

SETS_FILE = "sets.toml"
#: The set that is measured and trained when nothing is named.
COMMON = "common"


class FormatSet(Mapping[str, Format]):
    """The known formats by id, sorted. Looking up an unknown id raises HarnessError with the nearest names.

    ``sets`` are named selections beside them; ``own`` are the ids that came from the user's folders.
    """

    def __init__(
        self,
        formats: Iterable[Format],
        sets: Mapping[str, Sequence[str]] | None = None,
        own: Iterable[str] = (),
    ) -> None:
        self._by_id = {
            chat_format.id: chat_format
            for chat_format in sorted(formats, key=lambda chat_format: chat_format.id)
        }
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

    @property
    def default(self) -> tuple[str, ...]:
        """What is meant when nothing is named: the common formats, and all that the user brought."""
        return (COMMON, *self.own)

    def select(self, names: Iterable[str]) -> list[Format]:
        """The formats of these ids, sets (``common``, ``all``), globs (``llama*``) or draws (``grammar:200:seed=7``), in the order given, each once.

        Raises HarnessError for an unknown id, a glob that matches nothing and a draw that is not understood.
        """
        chosen: dict[str, Format] = {}
        for name in names:
            if name.startswith("grammar:"):
                from harness.formats.grammar.sample import sample_by_name

                chosen.update((chat_format.id, chat_format) for chat_format in sample_by_name(name))
                continue
            if name in self.sets and name not in self:
                found = list(self.sets[name])
            elif any(mark in name for mark in "*?["):
                found = [format_id for format_id in self._by_id if fnmatchcase(format_id, name)]
                if not found:
                    raise HarnessError(
                        f"no format matches {name!r}", hint="see: harness formats list"
                    )
            else:
                found = [name]
            chosen.update((format_id, self[format_id]) for format_id in found)
        return list(chosen.values())


def load_format(path: Path, *, compiled: bool = True) -> Format:
    """Read one format file and, unless told otherwise, compile its template. Raises HarnessError with file and line."""
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot read the format: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    chat_format = parse_format(source, path)
    if compiled:
        from harness.formats.tracing import compile_template

        compile_template(chat_format)
    return chat_format


def load_formats(*extra_dirs: Path) -> FormatSet:
    """The shipped formats, then those of the user's folders, which may replace a shipped one of the same id.

    The user's templates are compiled at once, so that a mistake is told before any work; the shipped
    ones when they are first rendered.
    """
    shipped = data_dir("formats")
    formats: dict[str, Format] = {}
    for folder in (shipped, *extra_dirs):
        if not folder.is_dir():
            raise HarnessError("no such folder of formats", where=str(folder))
        paths = sorted(folder.glob("*.jinja"))
        if not paths:
            raise HarnessError("the folder holds no *.jinja file", where=str(folder))
        formats.update(
            (chat_format.id, chat_format)
            for chat_format in (load_format(path, compiled=folder != shipped) for path in paths)
        )
    refuse_harmful(
        {
            chat_format.path: chat_format.template
            for chat_format in formats.values()
            if Path(chat_format.path).parent != shipped
        }
    )
    own = [
        format_id
        for format_id, chat_format in formats.items()
        if Path(chat_format.path).parent != shipped
    ]
    return FormatSet(
        formats.values(), tomllib.loads((shipped / SETS_FILE).read_text(encoding="utf-8")), own
    )
