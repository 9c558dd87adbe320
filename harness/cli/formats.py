"""harness formats list | show | render | check | sample."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from harness.cli.arguments import FormatId, at_least, format_id_of, parse
from harness.cli.output import print_json
from harness.conversation import Conversation, Message
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError
from harness.files import parse_json, read_json, write_text
from harness.formats import load_formats
from harness.records import Format
from harness.terminal import write_exactly

if TYPE_CHECKING:
    from harness.formats.properties import FormatReport


@dataclass(frozen=True)
class ListOptions:
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    json: bool = False
    """Print JSON."""
    markdown: bool = False
    """Print the page docs/formats.md: the properties of each format and a rendered example."""


def list_formats(args: list[str]) -> int:
    """List the known prompt formats: id, family, system prompt, thoughts, tools, stop strings.

    Example: harness formats list --formats-dir my-formats
    """
    options = parse(ListOptions, args, "formats list", list_formats.__doc__)
    known = load_formats(*map(Path, options.formats_dir))
    if options.markdown:
        from harness.report.catalog import catalog_page

        write_exactly(catalog_page(known.values()))
        return EXIT_OK
    if options.json:
        rows = [{**_facts(f), "origin": f.origin} for f in known.values()]
        print_json(rows, indent=1)
        return EXIT_OK
    width = max(len(f.id) for f in known.values())
    families = max(len(f.family) for f in known.values())
    for f in known.values():
        stops = " ".join(json.dumps(stop, ensure_ascii=False) for stop in f.stops) or "(EOS)"
        print(
            f"{f.id:{width}}  {f.family:{families}}  system: {f.system:11}  "
            f"thoughts: {f.reasoning:11}  tools: {f.tools:4}  stops: {stops}"
        )
    return EXIT_OK


def _facts(fmt: Format) -> dict[str, object]:
    names = ("id", "family", "system", "reasoning", "tools", "stops", "digest")
    return {name: getattr(fmt, name) for name in names}


@dataclass(frozen=True)
class ShowOptions:
    format_id: FormatId
    """Format id."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    json: bool = False
    """Print the format's facts and its file's text as JSON."""


def show(args: list[str]) -> int:
    """Print the file of a format: its facts and its template.

    Example: harness formats show chatml
    """
    options = parse(ShowOptions, args, "formats show", show.__doc__)
    found = load_formats(*map(Path, options.formats_dir))[options.format_id]
    text = Path(found.path).read_text(encoding="utf-8")
    if options.json:
        print_json({**_facts(found), "path": str(found.path), "text": text}, indent=1)
    else:
        write_exactly(text)
    return EXIT_OK


@dataclass(frozen=True)
class RenderOptions:
    format_id: FormatId
    """Format id."""
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """JSON file with a list of messages or {"messages": […]}; - for standard input."""
    generation_prompt: bool = False
    """End where the assistant's answer begins."""
    continue_final_message: bool = False
    """End with the last answer's text, without its stop string."""
    bos: str = ""
    """Text of the BOS token."""
    eos: str = ""
    """Text of the EOS token."""
    name: str | None = None
    """Name of the assistant, in a format with names."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    json: bool = False
    """Print {"format", "text", "stops", "spans"} as JSON."""


def render_file(args: list[str]) -> int:
    """Print a conversation in a format, byte for byte; no newline is added.

    Example: harness formats render llama3 chat.json --generation-prompt
    """
    from harness.formats.render import render

    options = parse(RenderOptions, args, "formats render", render_file.__doc__)
    chat_format = load_formats(*map(Path, options.formats_dir))[options.format_id]
    rendered = render(
        read_messages(options.file),
        chat_format,
        add_generation_prompt=options.generation_prompt,
        continue_final_message=options.continue_final_message,
        bos_token=options.bos,
        eos_token=options.eos,
        assistant_name=options.name,
    )
    if options.json:
        spans = [span._asdict() for span in rendered.spans]
        facts = {"format": chat_format.id, "text": rendered.text, "stops": rendered.stops}
        print_json({**facts, "spans": spans}, indent=1)
    else:
        write_exactly(rendered.text)
    return EXIT_OK


def read_messages(file: str) -> Conversation:
    """A conversation from a JSON file, with its tools. Raises HarnessError naming the file."""
    from harness.data.conversations import parse_dialogue

    if file == "-":
        try:
            value = parse_json(sys.stdin.read())
        except ValueError as error:
            raise HarnessError(f"not JSON: {error}", where=file) from None
    else:
        value = read_json(Path(file))
    row = value if isinstance(value, dict) else {"messages": value}
    messages, tools = parse_dialogue(row.get("messages"), row.get("tools"), file)
    return Conversation(Path(file).stem, messages, (), file, tools=tools)


@dataclass(frozen=True)
class CheckOptions:
    ids: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FORMAT ...]")
    ] = ()
    """Format ids or globs, or files and folders with a chat template (.jinja, .gguf, a model's
    folder). Default: all."""
    model: str | None = None
    """Also check against this model's tokenizer."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    strict: bool = False
    """Exit code 1 when there is a finding."""
    json: bool = False
    """Print JSON."""


def check(args: list[str]) -> int:
    """Compute the properties of formats and explain their problems.

    Example: harness formats check chatml 'llama*' --model ./my-model
    """
    from harness.formats.properties import check_format

    options = parse(CheckOptions, args, "formats check", check.__doc__)
    known = load_formats(*map(Path, options.formats_dir))
    sources = [name for name in options.ids if _is_source(name)]
    ids = [name for name in options.ids if name not in sources]
    chosen = known.select(ids) if options.ids else list(known.values())
    reports = [check_format(each) for each in chosen]
    for name in sources:
        source_format, report = _checked_source(Path(name))
        chosen.append(source_format)
        reports.append(report)
    if options.model:
        from harness.models import load_tokenizer, locate, without_adapter
        from harness.tokens.tokenizer_check import check_tokenizer, embedding_norms

        source = locate(without_adapter(options.model))
        tokenizer, norms = load_tokenizer(source), embedding_norms(source.path)
        reports = [
            check_tokenizer(report, each, tokenizer, norms)
            for report, each in zip(reports, chosen, strict=True)
        ]
    if options.json:
        print_json([asdict(report) for report in reports], indent=1)
    else:
        for report in reports:
            values = [item for item in report.properties.items() if item[1] is not None]
            print(f"{report.format}: {', '.join(_property(*item) for item in values)}")
            for finding in report.findings:
                print(f"  - {finding}")
    found = any(report.findings for report in reports)
    return EXIT_FINDINGS if options.strict and found else EXIT_OK


def _is_source(name: str) -> bool:
    path = Path(name)
    return path.is_dir() or (path.suffix in (".gguf", ".json") and path.is_file())


def _checked_source(path: Path) -> tuple[Format, FormatReport]:
    """The chat template of a file or folder as a format, with what its tokenizer contradicts."""
    from harness.formats.exchange.importing import import_format
    from harness.formats.exchange.sources import read_source
    from harness.formats.properties import check_format

    imported = import_format(read_source(path), format_id_of(path))
    report = check_format(imported.format)
    findings = tuple(dict.fromkeys([*report.findings, *imported.findings]))
    return imported.format, replace(report, findings=findings)


def _property(name: str, value: object) -> str:
    label = name.replace("_", " ")
    if isinstance(value, bool):
        return label if value else f"not {label}"
    if isinstance(value, dict):
        value = [f"{tag}×{count}" for tag, count in value.items()]
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value)) or "none"
    return f"{label} {value}"


@dataclass(frozen=True)
class SampleOptions:
    n: int = 10
    """Number of formats."""
    seed: int = 0
    """The same seed gives the same formats; a larger --n adds to them."""
    split: Literal["train", "test"] | None = None
    """Sample from one side only. The two sides share no delimiter and no mark; in the markdown
    style also no role name and no spacing."""
    style: Literal["markdown", "tags"] = "markdown"
    """markdown: headers between delimiters. tags: control strings like those of chat models, with
    words that no model uses."""
    random: bool = False
    """With --split: the sides share their parts but no combination of them."""
    out: str | None = None
    """Write the formats as files to this folder, for --formats-dir."""
    json: bool = False
    """Print JSON."""


def sample_formats(args: list[str]) -> int:
    """Sample procedural formats from a grammar and print how each begins, or write them as files.

    In --formats and in a recipe such a sample is called grammar:N:seed=S:split=train:style=tags.

    Example: harness formats sample --n 5 --seed 7
    """
    from harness.formats.grammar.sample import sample_sources

    options = parse(SampleOptions, args, "formats sample", sample_formats.__doc__)
    at_least(options, 1, "n")
    at_least(options, 0, "seed")
    drawn = sample_sources(
        options.n,
        options.seed,
        options.split,
        compositional=not options.random,
        style=options.style,
    )
    if options.out:
        for each, source in drawn:
            write_text(Path(options.out) / f"{each.id}.jinja", source)
    if options.json:
        rows = [{**_facts(each), "roles": dict(each.roles)} for each, _ in drawn]
        print_json(rows, indent=1)
    else:
        for each, _ in drawn:
            print(f"{each.id}  {_one_line(each)}")
    return EXIT_OK


def _one_line(fmt: Format) -> str:
    from harness.formats.render import render

    question, answer = Message("user", "question"), Message("assistant", "answer")
    example = Conversation("example", (question, answer, question))
    text = render(example, fmt, add_generation_prompt=True, eos_token="⟨EOS⟩").text
    return text.replace("\n", "⏎").replace("\t", "⇥")
