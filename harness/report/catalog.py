"""docs/formats.md: one row a format with its computed properties, and each format's rendering of one conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.formats.properties import check_format
from harness.formats.render import adapt_to_format, render
from harness.records import Conversation, Format, Message

_EXAMPLE = (
    Message("system", "Be brief."),
    Message("user", "What is 2 + 2?", "Dov"),
    Message("assistant", "4", "Mira"),
    Message("user", "And 3 + 3?", "Dov"),
)
_INTRODUCTION = """# The prompt formats

Written by `harness formats list --markdown`; a test holds it against the code. The properties are computed, not typed:

- **system**: where a system prompt goes; with `unsupported` the format's owner refuses one, and the suite puts it before the first question.
- **stable**: earlier turns keep their text when the conversation goes on. Where they do not, the owner's rendering depends on the position, and that is what is trained.
- **stop**: what ends an answer besides the tokenizer's EOS. It stands inside the trained text.
- **names**: whether speakers' names are part of the format.

`⟨s⟩` and `⟨/s⟩` stand for the tokenizer's BOS and EOS in the examples.
"""


def catalog_page(formats: Iterable[Format]) -> str:
    """The whole page as Markdown."""
    formats = list(formats)
    lines = [
        _INTRODUCTION,
        f"{len(formats)} formats of {len({f.family for f in formats})} families.",
        "",
    ]
    lines += [
        "| format | family | system | stable | names | stop |",
        "|---|---|---|---|---|---|",
        *map(_row, formats),
        "",
    ]
    for format in formats:
        lines += _section(format)
    return "\n".join(lines) + "\n"


def _row(format: Format) -> str:
    stable = "yes" if check_format(format).properties["prefix_stable"] else "**no**"
    stops = (
        " ".join(_code(stop.replace("\n", "⏎").replace("|", "\\|")) for stop in format.stops)
        or "EOS only"
    )
    return f"| [{format.id}](#{_anchor(format.id)}) | {format.family} | {format.system} | {stable} | {format.names} | {stops} |"


def _section(format: Format) -> Iterator[str]:
    text = render(
        adapt_to_format(Conversation("example", _EXAMPLE), format),
        format,
        add_generation_prompt=True,
        bos_token="⟨s⟩",
        eos_token="⟨/s⟩",
    ).text
    yield from (f"## {format.id}", "")
    yield from (f"{format.notes} " * bool(format.notes) + f"Source: {format.origin}.", "")
    fence = "~~~~" if "```" in text else "```"
    yield from (f"{fence}text", text, fence, "")


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return "".join(letter for letter in title.lower() if letter.isalnum() or letter in "-_")
