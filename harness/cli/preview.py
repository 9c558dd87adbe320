"""harness preview: what a model reads, token by token, and which tokens are trained."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro

from harness.cli.arguments import at_least, parse
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError
from harness.files import write_text
from harness.terminal import console

if TYPE_CHECKING:
    from harness.formats.trainers.trainer_config import TrainerName
    from harness.records import Format, Rendered

#: Part → its colour on a terminal, its colour in HTML. Each token also has its part in words.
COLOURS = {
    "answer": ("green", "#2a9"),
    "thought": ("magenta", "#a4c"),
    "call": ("cyan", "#28b"),
    "stop": ("yellow", "#c80"),
    "": ("dim", ""),
}
_PART = {"reasoning": "thought", "call": "call", "stop": "stop", "eos": "stop"}
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:15px/1.7 ui-monospace,monospace;margin:2rem;max-width:60rem}"
    "pre{white-space:pre-wrap}span{border-right:1px solid #8886;padding:1px 0}"
    + "".join(
        f".{part}{{background:{colour}3;border-bottom:2px solid {colour}}}"
        for part, (_, colour) in COLOURS.items()
        if part
    )
)


@dataclass(frozen=True)
class PreviewOptions:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """JSON file with a list of messages or {"messages": […], "tools": […]}; - for standard input.
    With --trainer: its configuration (YAML, JSON, a Python script or a notebook)."""
    format_id: Annotated[str | None, tyro.conf.arg(name="format")] = None
    """Format id. Default with --trainer: the configured template, or the model's own."""
    model: str | None = None
    """Model whose tokenizer is used: folder, run folder, GGUF file, hub id or
    SmolLM2-135M-Instruct. Default with --trainer: the configured model."""
    trainer: Literal["trl", "axolotl", "unsloth"] | None = None
    """Show which tokens this trainer would train with the configuration FILE, and where that
    differs from what should be trained."""
    data: tuple[str, ...] = ()
    """With --trainer: data files. Default: the configured ones."""
    rows: int = 2
    """With --trainer: how many rows to show. Up to 1000 rows are compared."""
    html: str | None = None
    """Also write the preview to this HTML file."""
    json: bool = False
    """Print JSON: the spans and the tokens."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""


class Piece(NamedTuple):
    """A token, and its part of an answer, or "" if it is not trained."""

    text: str
    id: int
    part: str


def preview(args: list[str]) -> int:
    """Show a conversation's text and tokens in a format; the trained parts have colours.

    With --trainer, show what TRL, axolotl or unsloth would train; exit code 1 if it differs.

    Example: harness preview chat.json --format chatml --model ./my-model
    """
    options = parse(PreviewOptions, args, "preview", preview.__doc__)
    if options.trainer:
        at_least(options, 0, "rows")
        if options.html:
            raise HarnessError("--html shows a conversation: it cannot be used with --trainer")
        return _trainer(options, options.trainer)
    if options.data:
        raise HarnessError("--data needs --trainer")
    if not options.format_id or not options.model:
        raise HarnessError(
            "give --format and --model", hint="harness preview FILE --format ID --model MODEL"
        )
    from harness.cli.formats import read_messages
    from harness.formats import load_formats
    from harness.formats.adapt import adapt_to_format
    from harness.formats.render import render
    from harness.models import load_tokenizer, locate, without_adapter
    from harness.tokens.encode import bos_text, eos_text, token_spans

    conversation = read_messages(options.file)
    known = load_formats(*map(Path, options.formats_dir))
    [chat_format] = known.select([options.format_id])[:1]
    tokenizer = load_tokenizer(locate(without_adapter(options.model)))
    rendered = render(
        adapt_to_format(conversation, chat_format),
        chat_format,
        bos_token=bos_text(tokenizer),
        eos_token=eos_text(tokenizer),
    )
    pieces = [
        Piece(tokenizer.decode([t.id]), t.id, _part(t.kind) if t.trained else "")
        for t in token_spans(rendered, tokenizer)
    ]
    if options.html:
        write_text(Path(options.html), _page(pieces, chat_format.id))
    if options.json:
        print_json(_as_json(rendered, chat_format, pieces), indent=1)
    else:
        _print(rendered, chat_format, pieces)
    return EXIT_OK


def _part(kind: str) -> str:
    return _PART.get(kind, "answer")


def _print(rendered: Rendered, chat_format: Format, pieces: list[Piece]) -> None:
    print(rendered.text)
    stops = ", ".join(map(repr, rendered.stops)) or "EOS"
    trained = sum(bool(piece.part) for piece in pieces)
    print(f"\n{len(pieces)} tokens, {trained} trained, format {chat_format.id}, stops {stops}")
    for message in rendered.dropped:
        print(f"this format drops the thought of message {message}, so it is not trained")
    out = console(soft_wrap=True)
    _legend(pieces)
    for piece in pieces:
        shown = repr(piece.text)[1:-1]
        out.print(f"{piece.id:>7}  {piece.part:<8} ", end="")
        out.print(f"‹{shown}›" if piece.part else shown, style=COLOURS[piece.part][0])


def _legend(pieces: list[Piece]) -> None:
    """One line: the parts that occur, in their colours, with their token counts."""
    out = console(soft_wrap=True)
    for part, (colour, _) in COLOURS.items():
        if count := sum(piece.part == part for piece in pieces):
            out.print(f"{part or 'not trained'} ({count})", style=colour, end="  ")
    out.print("\n")


def _as_json(rendered: Rendered, chat_format: Format, pieces: list[Piece]) -> dict[str, object]:
    return {
        "format": chat_format.id,
        "text": rendered.text,
        "stops": list(rendered.stops),
        "dropped_thoughts": list(rendered.dropped),
        "spans": [
            {**span._asdict(), "part": _part(span.kind) if span.trained else None}
            for span in rendered.spans
        ],
        "tokens": [{"id": p.id, "text": p.text, "part": p.part or None} for p in pieces],
    }


def _page(pieces: list[Piece], format_id: str) -> str:
    tokens = []
    for text, token, part in pieces:
        shown = html.escape(text).replace("\n", "⏎\n")
        title = f"{token}, {part}" if part else f"{token}"
        tokens.append(f'<span class="{part or "p"}" title="{title}">{shown}</span>')
    name = html.escape(format_id)
    legend = " ".join(f'<span class="{part}">{part}</span>' for part in COLOURS if part)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{name}</title><style>{_STYLE}</style>
<h1>{name}</h1><p>Each box is a token; the underlined ones are trained: {legend}</p>
<pre>{"".join(tokens)}</pre></html>
"""


def _trainer(options: PreviewOptions, trainer: TrainerName) -> int:
    from harness.cli.trainer_view import show_comparison
    from harness.formats import load_formats
    from harness.formats.trainers.trainer_config import read_trainer_config
    from harness.models import load_tokenizer, locate, without_adapter
    from harness.training.data.trainer_comparison import compare_trainer, config_files

    config = read_trainer_config(trainer, Path(options.file))
    files = config_files(config, options.data)
    model = options.model or config.model
    if not model:
        raise HarnessError(
            "the configuration names no model", where=options.file, hint="name it: --model MODEL"
        )
    format_id = options.format_id or config.format_id
    known = load_formats(*map(Path, options.formats_dir)) if format_id else None
    chat_format = known[format_id] if known and format_id else None
    tokenizer = load_tokenizer(locate(without_adapter(model)))
    found = compare_trainer(config, files, tokenizer, chat_format)
    show_comparison(found, rows=options.rows, as_json=options.json)
    return EXIT_FINDINGS if found.counts() else EXIT_OK
