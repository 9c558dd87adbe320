"""docs/formats.md: each format with its computed properties and one rendered conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.formats.adapt import adapt_to_format
from harness.formats.properties import check_format
from harness.formats.render import render
from harness.records import Format

_EXAMPLE = (
    Message("system", "Be brief."),
    Message("user", "What is 2 + 2?", "Dov"),
    Message("assistant", "4", "Mira"),
    Message("user", "And 3 + 3?", "Dov"),
)
_TOOL = Tool(
    '{"type": "function", "function": {"name": "add", "description": "Add two numbers.", '
    '"parameters": {"type": "object", "properties": {"a": {"type": "integer"}, '
    '"b": {"type": "integer"}}, "required": ["a", "b"]}}}'
)
_CALL = ToolCall("add", '{"a": 2, "b": 2}', "call00001")
_INTRODUCTION = """# The prompt formats

For people who look for the name or the exact text of a format. `harness formats show ID` prints its
file, and `harness formats detect MODEL` names the one that a model's chat template equals. If a
format is missing, [import](import.md) or [add](add-a-format.md) it.

This page was written by `harness formats list --markdown`. These properties are computed:

- **system**: where a system prompt goes. `unsupported` means that the format's owner refuses one;
  then it is put before the first question.
- **stable**: whether earlier turns keep their text when the conversation continues. If not, the
  owner's rendering depends on the position, and it is trained as it is at each position.
- **stop**: what ends an answer besides the tokenizer's EOS. It is part of the trained text.
- **thoughts**: which answers keep their thought: none, those after the last question
  (`last-turn`), all (`all-turns`), or those that a rule of the owner's selects (`by-position`).
  `off` means that thinking is off by default and can be switched on.
- **tools**: whether the format supports tools, calls and results.
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
        "| format | family | system | stable | thoughts | tools | names | stop |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, formats),
        "",
    ]
    for each in formats:
        lines += _section(each)
    return "\n".join(lines) + "\n"


def _row(fmt: Format) -> str:
    stable = "yes" if check_format(fmt).properties["prefix_stable"] else "**no**"
    stops = (
        " ".join(_code(stop.replace("\n", "⏎").replace("|", "\\|")) for stop in fmt.stops)
        or "EOS only"
    )
    link = f"[{fmt.id}](#{_anchor(fmt.id)})"
    thoughts = fmt.reasoning + ", off" * (fmt.reasoning != "none" and not fmt.thinks)
    facts = (fmt.family, fmt.system, stable, thoughts, fmt.tools, fmt.names, stops)
    return f"| {link} | {' | '.join(facts)} |"


def _section(fmt: Format) -> Iterator[str]:
    text = render(
        adapt_to_format(Conversation("example", _EXAMPLE), fmt),
        fmt,
        add_generation_prompt=True,
        bos_token="⟨s⟩",
        eos_token="⟨/s⟩",
    ).text
    yield from (f"## {fmt.id}", "")
    yield from (f"{fmt.notes} " * bool(fmt.notes) + f"Source: {fmt.origin}.", "")
    if fmt.switches:
        yield from (f"Switches: {', '.join(map(_switch, fmt.switches.items()))}.", "")
    yield from _fenced(text)
    if fmt.thinks or fmt.calls:
        yield from _answer(fmt)


def _answer(fmt: Format) -> Iterator[str]:
    """What is trained of an answer with a thought, or a call, or both."""
    calls = (_CALL,) if fmt.calls else ()
    answer = Message("assistant", "" if calls else "4", reasoning="Easy.", tool_calls=calls)
    asked = Conversation("example", (_EXAMPLE[1], answer), tools=(_TOOL,) * len(calls))
    rendered = render(adapt_to_format(asked, fmt), fmt, bos_token="⟨s⟩", eos_token="⟨/s⟩")
    text = "".join(rendered.text[span.start : span.end] for span in rendered.spans if span.trained)
    what = " and ".join(["a thought"] * fmt.thinks + ["a call"] * fmt.calls)
    yield from (f"An answer with {what}, as it is trained:", "")
    yield from _fenced(text)


def _fenced(text: str) -> Iterator[str]:
    fence = "~~~~" if "```" in text else "```"
    yield from (f"{fence}text", text, fence, "")


def _switch(switch: tuple[str, Sequence[Any]]) -> str:
    """A switch with its values, the default first, as it is written behind an id."""
    name, values = switch
    spelt = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    return _code(f"{name}={'|'.join(spelt) or '…'}")


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return "".join(letter for letter in title.lower() if letter.isalnum() or letter in "-_")
