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
            format.id: format for format in sorted(formats, key=lambda format: format.id)
        }
        self.sets = {
            "all": tuple(self._by_id),
            **{name: tuple(ids) for name, ids in (sets or {}).items()},
        }
        self.own = tuple(own)

    def __getitem__(self, id: str) -> Format:
        try:
            return self._by_id[id]
        except KeyError:
            raise HarnessError(
                f"unknown format {id!r}", hint=nearest(id, [*self._by_id, *self.sets])
            ) from None

    def __contains__(self, id: object) -> bool:
        return id in self._by_id

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
                from harness.formats.grammar.sample import parse_request

                chosen.update((format.id, format) for format in parse_request(name))
                continue
            if name in self.sets and name not in self:
                found = list(self.sets[name])
            elif any(mark in name for mark in "*?["):
                found = [id for id in self._by_id if fnmatchcase(id, name)]
                if not found:
                    raise HarnessError(
                        f"no format matches {name!r}", hint="see: harness formats list"
                    )
            else:
                found = [name]
            chosen.update((id, self[id]) for id in found)
        return list(chosen.values())


def load_format(path: Path, *, compiled: bool = True) -> Format:
    """Read one format file and, unless told otherwise, compile its template. Raises HarnessError with file and line."""
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot read the format: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    format = parse_format(source, path)
    if compiled:
        from harness.formats.tracing import compile_template

        compile_template(format)
    return format


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
            (format.id, format)
            for format in (load_format(path, compiled=folder != shipped) for path in paths)
        )
    refuse_harmful(
        {
            format.path: format.template
            for format in formats.values()
            if Path(format.path).parent != shipped
        }
    )
    own = [id for id, format in formats.items() if Path(format.path).parent != shipped]
    return FormatSet(
        formats.values(), tomllib.loads((shipped / SETS_FILE).read_text(encoding="utf-8")), own
    )
