"""harness recipes list and copy: the shipped recipes for harness train."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse, refuse_existing
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError, nearest
from harness.files import read_text, write_text
from harness.resources import data_dir

#: A file of the shipped training set, as a recipe of a checkout names it.
_SHIPPED_ROWS = re.compile(r'"trainset/([\w-]+\.jsonl)"')


@dataclass(frozen=True)
class RecipesListOptions:
    json: bool = False
    """Print [{"name", "about", "path"}] as JSON."""


def list_recipes(args: list[str]) -> int:
    """List the shipped recipes and what each is for.

    Example: harness recipes list
    """
    options = parse(RecipesListOptions, args, "recipes list", list_recipes.__doc__)
    found = recipes()
    rows = [
        {"name": n, "about": about(text), "path": str(path)} for n, (path, text) in found.items()
    ]
    if options.json:
        print_json(rows, indent=1)
        return EXIT_OK
    width = max(map(len, found))
    for row in rows:
        print(f"{row['name']:{width}}  {row['about']}")
    print("next: harness recipes copy NAME")
    return EXIT_OK


@dataclass(frozen=True)
class CopyOptions:
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """A recipe that harness recipes list shows."""
    out: str | None = None
    """File to write. Default: NAME.toml."""
    force: bool = False
    """Replace existing files."""
    json: bool = False
    """Print {"files"} as JSON."""


def copy(args: list[str]) -> int:
    """Write a shipped recipe to a file of your own, and the rows that it trains on beside it.

    The rows go to the folder trainset of the current folder, from which the recipe reads them.

    Example: harness recipes copy smollm2-cpu --out run.toml
    """
    options = parse(CopyOptions, args, "recipes copy", copy.__doc__)
    found = recipes()
    if options.name not in found:
        raise HarnessError(f"unknown recipe {options.name!r}", hint=nearest(options.name, found))
    _, text = found[options.name]
    out = Path(options.out or f"{options.name}.toml")
    files = {out: text}
    for name in dict.fromkeys(_SHIPPED_ROWS.findall(text)):
        rows = read_text(data_dir("trainset") / name, "rows")
        target = Path("trainset", name)
        if not (target.is_file() and read_text(target, "rows") == rows):
            files[target] = rows
    for path in files:
        refuse_existing(path, force=options.force)
    for path, content in files.items():
        write_text(path, content)
    if options.json:
        print_json({"files": list(map(str, files))})
        return EXIT_OK
    for path in files:
        print(f"wrote {path}")
    print(f"next: harness train {shlex.quote(str(out))} --dry-run")
    return EXIT_OK


def recipes() -> dict[str, tuple[Path, str]]:
    """The shipped recipes by name: their file and its text."""
    files = sorted(data_dir("recipes").glob("*.toml"))
    return {file.stem: (file, read_text(file, "recipe")) for file in files}


def about(text: str) -> str:
    """What a recipe says of itself: the first sentence of the comment at its beginning."""
    lines = re.match(r"(?:#[^\n]*\n)+", text)
    comment = " ".join(line.lstrip("# ") for line in lines[0].splitlines()) if lines else ""
    return re.split(r"(?<=\w)[.:] ", comment, maxsplit=1)[0].rstrip(".")
