"""harness preview: what the model reads, token by token, and what of it is trained."""

from __future__ import annotations

import html
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class PreviewOptions:
    file: Annotated[str, tyro.conf.Positional]
    """JSON file with a list of messages or {"messages": […]}; - for standard input."""
    format: str
    """Format id."""
    model: str
    """Whose tokenizer: model folder, GGUF file, hub id or SmolLM2-135M-Instruct."""
    html: str | None = None
    """Also write the picture to this HTML file."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""


def preview(args: list[str]) -> int:
    """Show text and tokens of a conversation in a format; trained tokens stand in green and between ‹ ›."""
    options = parse(
        PreviewOptions,
        args,
        "preview",
        "Show a conversation's text and tokens in a format; trained tokens stand in green, between ‹ and ›.",
    )
    from harness.cli.formats import read_messages
    from harness.formats import load_formats
    from harness.formats.render import render
    from harness.models import load_tokenizer, locate
    from harness.tokens.encode import bos_text, encode, eos_text

    conversation = read_messages(options.file)
    format = load_formats(*map(Path, options.formats_dir))[options.format]
    tokenizer = load_tokenizer(locate(options.model))
    rendered = render(
        conversation, format, bos_token=bos_text(tokenizer), eos_token=eos_text(tokenizer)
    )
    encoded = encode(rendered, tokenizer)
    pieces = [
        (tokenizer.decode([id]), id, trained)
        for id, trained in zip(encoded.ids, encoded.trained, strict=True)
    ]
    colour = sys.stdout.isatty()
    print(rendered.text)
    print(
        f"\n{len(pieces)} tokens, {sum(encoded.trained)} trained, format {format.id}, stops {', '.join(map(repr, rendered.stops)) or 'EOS'}\n"
    )
    for text, id, trained in pieces:
        shown = repr(text)[1:-1]
        mark = f"‹{shown}›" if trained else shown
        print(f"{id:>7}  " + (f"\x1b[32m{mark}\x1b[0m" if trained and colour else mark))
    if options.html:
        Path(options.html).write_text(_page(pieces, format.id), encoding="utf-8")
    return EXIT_OK


def _page(pieces: list[tuple[str, int, bool]], format: str) -> str:
    tokens = "".join(
        f'<span class="{"t" if trained else "p"}" title="{id}{", trained" if trained else ""}">{html.escape(text).replace(chr(10), "⏎" + chr(10))}</span>'
        for text, id, trained in pieces
    )
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(format)}</title><style>:root{{color-scheme:light dark}}body{{font:15px/1.7 ui-monospace,monospace;margin:2rem;max-width:60rem}}"
        "pre{white-space:pre-wrap}span{border-right:1px solid #8886;padding:1px 0}.t{background:#2a93;border-bottom:2px solid #2a9}</style>"
        f"<h1>{html.escape(format)}</h1><p>Each box is a token; the underlined green ones are trained.</p><pre>{tokens}</pre></html>\n"
    )
