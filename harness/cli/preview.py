"""harness preview: what a model reads, token by token, and which tokens are trained."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK
from harness.files import write_text
from harness.terminal import console

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:15px/1.7 ui-monospace,monospace;margin:2rem;max-width:60rem}"
    "pre{white-space:pre-wrap}span{border-right:1px solid #8886;padding:1px 0}"
    ".t{background:#2a93;border-bottom:2px solid #2a9}"
)


@dataclass(frozen=True)
class PreviewOptions:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """JSON file with a list of messages or {"messages": […]}; - for standard input."""
    format_id: Annotated[str, tyro.conf.arg(name="format")]
    """Format id."""
    model: str
    """Whose tokenizer: model folder, GGUF file, hub id or SmolLM2-135M-Instruct."""
    html: str | None = None
    """Also write the preview to this HTML file."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""


def preview(args: list[str]) -> int:
    """Show a conversation's text and tokens in a format; trained ones are green, in ‹ and ›."""
    options = parse(PreviewOptions, args, "preview", preview.__doc__)
    from harness.cli.formats import read_messages
    from harness.formats import load_formats
    from harness.formats.render import render
    from harness.models import load_tokenizer, locate
    from harness.tokens.encode import bos_text, encode, eos_text

    conversation = read_messages(options.file)
    chat_format = load_formats(*map(Path, options.formats_dir))[options.format_id]
    tokenizer = load_tokenizer(locate(options.model))
    rendered = render(
        conversation, chat_format, bos_token=bos_text(tokenizer), eos_token=eos_text(tokenizer)
    )
    encoded = encode(rendered, tokenizer)
    pieces = [
        (tokenizer.decode([token]), token, trained)
        for token, trained in zip(encoded.ids, encoded.trained, strict=True)
    ]
    print(rendered.text)
    stops = ", ".join(map(repr, rendered.stops)) or "EOS"
    counts = f"{len(pieces)} tokens, {sum(encoded.trained)} trained"
    print(f"\n{counts}, format {chat_format.id}, stops {stops}\n")
    out = console(soft_wrap=True)
    for text, token, trained in pieces:
        shown = f"‹{repr(text)[1:-1]}›" if trained else repr(text)[1:-1]
        out.print(f"{token:>7}  ", end="")
        out.print(shown, style="green" if trained else "")
    if options.html:
        write_text(Path(options.html), _page(pieces, chat_format.id))
    return EXIT_OK


def _page(pieces: list[tuple[str, int, bool]], format_id: str) -> str:
    tokens = []
    for text, token, trained in pieces:
        shown = html.escape(text).replace("\n", "⏎\n")
        title = f"{token}, trained" if trained else f"{token}"
        tokens.append(f'<span class="{"t" if trained else "p"}" title="{title}">{shown}</span>')
    name = html.escape(format_id)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{name}</title><style>{_STYLE}</style>
<h1>{name}</h1><p>Each box is a token; the underlined green ones are trained.</p>
<pre>{"".join(tokens)}</pre></html>
"""
