"""harness formats import | export | detect."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError
from harness.formats import load_formats

if TYPE_CHECKING:
    from harness.formats.exchange.sources import Source

#: What names a file even when there is none, so that a slip of the pen is not looked for as a model.
_FILES = (".json", ".jinja", ".gguf", ".txt")
Target = Literal[
    "hf", "hf-training", "sillytavern", "ollama", "llamacpp", "webui", "axolotl", "llamafactory"
]


@dataclass(frozen=True)
class ImportOptions:
    source: Annotated[str, tyro.conf.Positional]
    """Model folder or name, tokenizer_config.json, .jinja, .gguf, SillyTavern instruct preset (.json), or a text with SYS, U1, A1, U2 in the places of the words."""
    id: str | None = None
    """Name of the new format. Without it, the source's own name."""
    context: str | None = None
    """SillyTavern context preset that goes with an instruct preset."""
    out: str = "formats"
    """Folder for the new file, for --formats-dir."""
    force: bool = False
    """Replace a file that is there."""
    json: bool = False
    """Print JSON."""


def import_(args: list[str]) -> int:
    """Make a format file of a format from elsewhere, and say what it does not keep."""
    from harness.formats.exchange.importing import import_format

    options = parse(
        ImportOptions,
        args,
        "formats import",
        "Make a format file of a format from elsewhere, verify it, and say what it does not keep.",
    )
    imported = import_format(
        _read(options.source, options.context), options.id or _id_of(Path(options.source))
    )
    target = Path(options.out) / f"{imported.format.id}.jinja"
    if target.exists() and not options.force:
        raise HarnessError(
            "the file exists already",
            where=str(target),
            hint="--force replaces it, --id names another",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(imported.source, encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot write: {error.strerror}", where=str(target)) from None
    if options.json:
        print(
            json.dumps(
                {
                    "format": imported.format.id,
                    "path": str(target),
                    "system": imported.format.system,
                    "stops": imported.format.stops,
                    "lost": imported.lost,
                }
            )
        )
        return EXIT_OK
    print(f"{target}: system {imported.format.system}, stops {list(imported.format.stops)}")
    for sentence in imported.lost:
        print(f"  not kept: {sentence}")
    print(f"next: harness formats check {imported.format.id} --formats-dir {options.out}")
    return EXIT_OK


def _read(name: str, context: str | None) -> Source:
    """The template behind a path, or behind a model's name where no such path is."""
    from harness.formats.exchange.sources import read_source

    path = Path(name)
    if not path.exists() and path.suffix not in _FILES:
        from harness.models import template_path

        path = template_path(name)
    return read_source(path, Path(context) if context else None)


def _id_of(path: Path) -> str:
    name = (
        path.resolve().parent.name
        if path.name in ("tokenizer_config.json", "chat_template.jinja")
        else path.stem
        if path.is_file()
        else path.resolve().name
    )
    return (
        "".join(
            letter if letter.isalnum() or letter in "._-" else "-" for letter in name.lower()
        ).strip("-._")
        or "imported"
    )


@dataclass(frozen=True)
class ExportOptions:
    id: Annotated[str, tyro.conf.Positional]
    """Id of the format."""
    to: Target
    """The program that is to read it."""
    out: str | None = None
    """File to write. Without it the text is printed."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""


def export(args: list[str]) -> int:
    """Write a format for another program. What was written has been read back and compared."""
    from harness.formats.exchange.exporting import export_format

    options = parse(
        ExportOptions,
        args,
        "formats export",
        "Write a format for another program. What is written has been read back and compared.",
    )
    exported = export_format(load_formats(*map(Path, options.formats_dir))[options.id], options.to)
    if options.out:
        try:
            Path(options.out).write_text(exported.text, encoding="utf-8")
        except OSError as error:
            raise HarnessError(f"cannot write: {error.strerror}", where=options.out) from None
    else:
        sys.stdout.write(exported.text)
    for sentence in exported.lost:
        print(f"not kept: {sentence}", file=sys.stderr)
    return EXIT_OK


@dataclass(frozen=True)
class DetectOptions:
    source: Annotated[str, tyro.conf.Positional]
    """Model folder or name, tokenizer_config.json, .jinja, .gguf, SillyTavern instruct preset or example text."""
    context: str | None = None
    """SillyTavern context preset that goes with an instruct preset."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""
    json: bool = False
    """Print JSON."""


def detect(args: list[str]) -> int:
    """Say which known formats a template equals. Exit 1 when it equals none."""
    from harness.formats.exchange.importing import rank_formats

    options = parse(
        DetectOptions,
        args,
        "formats detect",
        "Say which known formats a template equals, over conversations with and without a system prompt. Exit 1: none.",
    )
    source = _read(options.source, options.context)
    rows = rank_formats(source, list(load_formats(*map(Path, options.formats_dir)).values()))
    equal = [format.id for format, same, total in rows if same == total]
    nearest = [
        {"format": format.id, "same": same, "of": total}
        for format, same, total in rows[:3]
        if 0 < same < total
    ]
    if options.json:
        print(
            json.dumps(
                {"source": options.source, "kind": source.kind, "equals": equal, "nearest": nearest}
            )
        )
    elif equal:
        print(f"{source.where} equals {', '.join(equal)}")
    else:
        near = (
            "; nearest: "
            + ", ".join(
                f"{row['format']} ({row['same']} of {row['of']} conversations)" for row in nearest
            )
            if nearest
            else ""
        )
        print(f"{source.where} equals no known format{near}")
        print(f"next: harness formats import {options.source}")
    return EXIT_OK if equal else EXIT_FINDINGS
