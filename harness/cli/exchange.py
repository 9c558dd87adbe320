"""harness formats import | export | detect."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from harness.cli.arguments import FormatId, format_id_of, parse, refuse_existing
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError
from harness.files import parse_json, write_text
from harness.formats import load_formats
from harness.models.source import OLLAMA
from harness.run_file import is_trained
from harness.terminal import write_exactly

if TYPE_CHECKING:
    from harness.formats.exchange.sources import Source as TemplateSource

#: A folder with one of these has a template of its own, also an adapter's.
TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json")
#: Suffixes of files. A name with one of them is never looked up as a model.
_SUFFIXES = (".json", ".jinja", ".gguf", ".txt", ".gotmpl", ".tmpl", ".yaml", ".yml")
Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
Target = Literal[
    "hf", "hf-training", "sillytavern", "ollama", "llamacpp", "webui", "axolotl", "llamafactory"
]


@dataclass(frozen=True)
class ImportOptions:
    source: Source
    """Model or run folder, model name, ollama/NAME, tokenizer_config.json, .jinja, .gguf,
    SillyTavern instruct preset (.json), Ollama's Modelfile or Go template, text-generation-webui
    template (.yaml), or an example text with SYS, U1, A1 and U2 in place of the messages."""
    format_id: Annotated[str | None, tyro.conf.arg(name="id")] = None
    """Id of the new format. Default: derived from the source's name."""
    context: str | None = None
    """SillyTavern context preset that goes with an instruct preset."""
    template_name: str | None = None
    """Name of the chat template, for a model with several. Default: default."""
    variable: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Values for other variables that the template reads; VALUE is JSON or text."""
    out: str = "formats"
    """Folder of the new file, for --formats-dir."""
    force: bool = False
    """Replace an existing file."""
    json: bool = False
    """Print JSON."""


def import_(args: list[str]) -> int:
    """Make a format file from another program's format, verify it, and print what is lost.

    Example: harness formats import ./my-model --out my-formats
    """
    from harness.formats.exchange.importing import import_format

    options = parse(ImportOptions, args, "formats import", import_.__doc__)
    format_id = options.format_id or format_id_of(Path(options.source))
    source = _read(options.source, options.context, options.template_name)
    imported = import_format(source, format_id, dict(map(_variable, options.variable)))
    target = Path(options.out) / f"{imported.format.id}.jinja"
    refuse_existing(target, force=options.force)
    write_text(target, imported.source)
    chat_format = imported.format
    if options.json:
        table = {
            "format": chat_format.id,
            "path": str(target),
            "system": chat_format.system,
            "reasoning": chat_format.reasoning,
            "tools": chat_format.tools,
            "stops": chat_format.stops,
            "lost": imported.lost,
            "findings": imported.findings,
            "proved": imported.proved,
            "refused": imported.refused,
        }
        print_json(table)
        return EXIT_OK
    print(f"{target}: system {chat_format.system}, stops {list(chat_format.stops)}")
    if imported.proved:
        print(
            f"  kept unchanged: thoughts {chat_format.reasoning}, tools {chat_format.tools}; the "
            f"loss mask is proved on {len(imported.proved)} shapes of conversation"
        )
    for sentence in imported.lost:
        print(f"  not kept: {sentence}")
    for sentence in imported.findings:
        print(f"  finding: {sentence}")
    for sentence in imported.refused:
        print(f"  it refuses {sentence}")
    print(f"next: harness formats check {chat_format.id} --formats-dir {options.out}")
    return EXIT_OK


def _variable(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given or not name.isidentifier():
        raise HarnessError(f"invalid --variable {text!r}", hint="write NAME=VALUE")
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value


def _read(name: str, context: str | None, template_name: str | None = None) -> TemplateSource:
    """The template at a path, or of the model of this name when there is no such path."""
    from harness.formats.exchange.sources import read_source

    if name.startswith(OLLAMA):
        from harness.backends.ollama_server import modelfile

        with TemporaryDirectory() as folder:
            file = Path(folder, "Modelfile")
            file.write_text(modelfile(name), encoding="utf-8")
            try:
                return replace(read_source(file, None, template_name), where=name)
            except HarnessError as error:
                raise HarnessError(error.message, name, error.hint) from None

    path = Path(name)
    adapter = is_trained(path) and not any((path / file).is_file() for file in TEMPLATE_FILES)
    if adapter or (not path.exists() and path.suffix not in _SUFFIXES):
        from harness.models import template_path

        path = template_path(name)
    return read_source(path, Path(context) if context else None, template_name)


@dataclass(frozen=True)
class ExportOptions:
    format_id: FormatId
    """Format id."""
    to: Target
    """The program that will read it."""
    out: str | None = None
    """File to write. Default: print the text."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    json: bool = False
    """Print {"format", "to", "lost"} as JSON, with "file", or without --out with "text"."""


def export(args: list[str]) -> int:
    """Write a format for another program, after reading the result back and comparing it.

    Example: harness formats export chatml --to ollama
    """
    from harness.formats.exchange.exporting import export_format

    options = parse(ExportOptions, args, "formats export", export.__doc__)
    known = load_formats(*map(Path, options.formats_dir))
    exported = export_format(known[options.format_id], options.to)
    if options.out:
        write_text(Path(options.out), exported.text)
    if options.json:
        where = {"file": options.out} if options.out else {"text": exported.text}
        facts = {"format": options.format_id, "to": options.to, "lost": exported.lost}
        print_json({**facts, **where})
        return EXIT_OK
    if not options.out:
        write_exactly(exported.text)
    for sentence in exported.lost:
        print(f"not kept: {sentence}", file=sys.stderr)
    return EXIT_OK


@dataclass(frozen=True)
class DetectOptions:
    source: Source
    """Model or run folder, model name, ollama/NAME, tokenizer_config.json, .jinja, .gguf,
    SillyTavern instruct preset,
    Modelfile, Go template, text-generation-webui template or example text."""
    context: str | None = None
    """SillyTavern context preset that goes with an instruct preset."""
    template_name: str | None = None
    """Name of the chat template, for a model with several. Default: default."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    json: bool = False
    """Print JSON."""


def detect(args: list[str]) -> int:
    """Find the known formats that a template equals on conversations with and without a system
    prompt. Exit code 1: it equals none.

    Example: harness formats detect ./my-model
    """
    from harness.formats.exchange.detecting import differs_beyond, rank_formats, variant_of

    options = parse(DetectOptions, args, "formats detect", detect.__doc__)
    source = _read(options.source, options.context, options.template_name)
    known_formats = list(load_formats(*map(Path, options.formats_dir)).values())
    rows = rank_formats(source, known_formats)
    equal = [known.id for known, same, total in rows if same == total]
    differs = {
        known.id: differs_beyond(source, known) for known, same, total in rows if same == total
    }
    nearest = [
        {"format": known.id, "same": same, "of": total}
        for known, same, total in rows[:3]
        if 0 < same < total
    ]
    variant = None if equal else variant_of(source, known_formats)
    if options.json:
        facts = {"source": options.source, "kind": source.kind}
        print_json(
            {
                **facts,
                "equals": equal,
                "nearest": nearest,
                "variant_of": variant and {"format": variant.format.id, "differs": variant.differs},
                "lost": source.lost,
                "differs": differs,
            }
        )
        return EXIT_OK if equal else EXIT_FINDINGS
    if equal:
        print(f"{source.where} equals {', '.join(equal)}")
        for known_id, names in differs.items():
            if names:
                print(f"  not equal to {known_id} in conversations with {' or '.join(names)}")
    else:
        near = ", ".join(
            f"{row['format']} ({row['same']} of {row['of']} conversations)" for row in nearest
        )
        if variant:
            differs_in = "; ".join(variant.differs) or "all plain turns are equal"
            print(f"{source.where} is a variant of {variant.format.id}: {differs_in}")
        else:
            print(f"{source.where} equals no known format{f'; nearest: {near}' if near else ''}")
    for sentence in source.lost:
        print(f"  not compared: {sentence}")
    if not equal:
        context = f" --context {shlex.quote(options.context)}" if options.context else ""
        print(f"next: harness formats import {shlex.quote(options.source)}{context}")
    return EXIT_OK if equal else EXIT_FINDINGS
