"""harness formats list | show | render | check | sample."""

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
    from harness.records import Format


@dataclass(frozen=True)
class ListOptions:
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""
    json: bool = False
    """Print JSON."""
    markdown: bool = False
    """Print the page docs/formats.md: properties and a rendered example of each."""


def list_formats(args: list[str]) -> int:
    """List the known formats: id, family, what ends an answer."""
    options = parse(ListOptions, args, "formats list", "List the known prompt formats.")
    known = load_formats(*map(Path, options.formats_dir))
    if options.markdown:
        from harness.report.catalog import catalog_page

        sys.stdout.write(catalog_page(known.values()))
        return EXIT_OK
    if options.json:
        rows = [
            {
                "id": f.id,
                "family": f.family,
                "system": f.system,
                "stops": f.stops,
                "origin": f.origin,
                "digest": f.digest,
            }
            for f in known.values()
        ]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return EXIT_OK
    width = max(len(f.id) for f in known.values())
    families = max(len(f.family) for f in known.values())
    for f in known.values():
        print(
            f"{f.id:{width}}  {f.family:{families}}  system: {f.system:11}  stops: {' '.join(json.dumps(s, ensure_ascii=False) for s in f.stops) or '(EOS)'}"
        )
    return EXIT_OK


@dataclass(frozen=True)
class ShowOptions:
    id: Annotated[str, tyro.conf.Positional]
    """Format id."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""


def show(args: list[str]) -> int:
    """Print a format's file: its facts and its template."""
    options = parse(ShowOptions, args, "formats show", "Print a format's facts and its template.")
    format = load_formats(*map(Path, options.formats_dir))[options.id]
    sys.stdout.write(Path(format.path).read_text(encoding="utf-8"))
    return EXIT_OK


@dataclass(frozen=True)
class RenderOptions:
    id: Annotated[str, tyro.conf.Positional]
    """Format id."""
    file: Annotated[str, tyro.conf.Positional]
    """JSON file with a list of messages or {"messages": […]}; - for standard input."""
    generation_prompt: bool = False
    """End where the assistant is to begin."""
    continue_final_message: bool = False
    """End with the last answer's words, without its stop."""
    bos: str = ""
    """Text of the BOS token."""
    eos: str = ""
    """Text of the EOS token."""
    name: str | None = None
    """Who answers, in a format with names."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""


def render_file(args: list[str]) -> int:
    """Print exactly the rendered text, with no newline added."""
    from harness.formats.render import render

    options = parse(
        RenderOptions,
        args,
        "formats render",
        "Print a conversation in a format, to the byte; no newline is added.",
    )
    format = load_formats(*map(Path, options.formats_dir))[options.id]
    rendered = render(
        read_messages(options.file),
        format,
        add_generation_prompt=options.generation_prompt,
        continue_final_message=options.continue_final_message,
        bos_token=options.bos,
        eos_token=options.eos,
        assistant_name=options.name,
    )
    sys.stdout.buffer.write(rendered.text.encode("utf-8"))
    sys.stdout.flush()
    return EXIT_OK


def read_messages(file: str):  # type: ignore[no-untyped-def]
    """A conversation from a JSON file. Raises HarnessError naming the file."""
    from harness.data.conversations import parse_messages
    from harness.records import Conversation

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        value = json.loads(text)
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=file) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HarnessError(f"not JSON: {error}", where=file) from None
    messages = value.get("messages") if isinstance(value, dict) else value
    return Conversation(Path(file).stem, parse_messages(messages, file), (), file)


@dataclass(frozen=True)
class CheckOptions:
    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Format ids or globs; all without any."""
    model: str | None = None
    """Also check against this model's tokenizer."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""
    strict: bool = False
    """Exit with 1 when there is a finding."""
    json: bool = False
    """Print JSON."""


def check(args: list[str]) -> int:
    """Compute the properties of formats and explain each finding in a sentence."""
    from dataclasses import asdict

    from harness.formats.properties import check_format

    options = parse(
        CheckOptions,
        args,
        "formats check",
        "Compute the properties of formats and explain what is wrong with them.",
    )
    known = load_formats(*map(Path, options.formats_dir))
    chosen = known.select(options.ids) if options.ids else list(known.values())
    reports = [check_format(format) for format in chosen]
    if options.model:
        from harness.models import load_tokenizer, locate
        from harness.tokens.tokenizer_check import check_tokenizer, embedding_norms

        source = locate(options.model)
        tokenizer, norms = load_tokenizer(source), embedding_norms(source.path)
        reports = [
            check_tokenizer(report, format, tokenizer, norms)
            for report, format in zip(reports, chosen, strict=True)
        ]
    if options.json:
        print(json.dumps([asdict(report) for report in reports], indent=1, ensure_ascii=False))
    else:
        for report in reports:
            print(
                f"{report.format}: {', '.join(_property(name, value) for name, value in report.properties.items() if value is not None)}"
            )
            for finding in report.findings:
                print(f"  - {finding}")
    return (
        EXIT_FINDINGS if options.strict and any(report.findings for report in reports) else EXIT_OK
    )


def _property(name: str, value: object) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"not {words}"
    if isinstance(value, dict):
        return f"{words} {' '.join(f'{tag}×{count}' for tag, count in value.items()) or 'none'}"
    return (
        f"{words} {' '.join(map(str, value)) or 'none'}"
        if isinstance(value, (list, tuple))
        else f"{words} {value}"
    )


@dataclass(frozen=True)
class SampleOptions:
    n: int = 10
    """How many formats."""
    seed: int = 0
    """The same seed gives the same formats; a greater n only adds to them."""
    split: Literal["train", "test"] | None = None
    """Draw from one side only: the two sides share no delimiter and no mark; of markdown no role name and no spacing either."""
    style: Literal["markdown", "tags"] = "markdown"
    """markdown: headers between delimiters. tags: control strings such as chat models have, with words that no model uses."""
    random: bool = False
    """With --split: the sides share their parts, and only the combinations are kept apart."""
    out: str | None = None
    """Write the formats as files into this folder, for --formats-dir."""
    json: bool = False
    """Print JSON."""


def sample_formats(args: list[str]) -> int:
    """Draw formats from the grammar and show how each begins, or write them as files."""
    from harness.formats.grammar.sample import sample_sources

    options = parse(
        SampleOptions,
        args,
        "formats sample",
        "Draw procedural formats from a grammar. Name a draw in --formats, formats.train and formats.held_out: grammar:N:seed=S:split=train:style=tags.",
    )
    if options.n < 1:
        raise HarnessError(f"--n {options.n}: at least one format", hint="--n 10")
    drawn = sample_sources(
        options.n,
        options.seed,
        options.split,
        compositional=not options.random,
        style=options.style,
    )
    if options.out:
        folder = Path(options.out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for format, source in drawn:
                (folder / f"{format.id}.jinja").write_text(source, encoding="utf-8")
        except OSError as error:
            raise HarnessError(f"cannot write: {error.strerror}", where=options.out) from None
    if options.json:
        print(
            json.dumps(
                [
                    {
                        "id": f.id,
                        "family": f.family,
                        "system": f.system,
                        "stops": f.stops,
                        "roles": dict(f.roles),
                        "digest": f.digest,
                    }
                    for f, _ in drawn
                ],
                indent=1,
                ensure_ascii=False,
            )
        )
    else:
        for format, _ in drawn:
            print(f"{format.id}  {_one_line(format)}")
    return EXIT_OK


def _one_line(format: Format) -> str:
    from harness.formats.render import render
    from harness.records import Conversation, Message

    text = render(
        Conversation(
            "example",
            (
                Message("user", "question"),
                Message("assistant", "answer"),
                Message("user", "question"),
            ),
        ),
        format,
        add_generation_prompt=True,
        eos_token="⟨EOS⟩",
    ).text
    return text.replace("\n", "⏎").replace("\t", "⇥")
