"""Instruction templates of text-generation-webui.

YAML with a Jinja template, or in older files with the pieces of a turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from harness.conversation import Message
from harness.errors import HarnessError
from harness.formats.exchange.programs.special_tokens import unspell_tokens
from harness.formats.turns import Renderer

_KEY = re.compile(r"([A-Za-z_][\w-]*):(?:[ \t]+(.*?))?[ \t]*$")
_PLACES = ("<|user-message|>", "<|bot-message|>")


def read_yaml_texts(text: str, where: str) -> dict[str, str]:
    """The texts of a flat YAML mapping: block scalars, quoted and plain ones.

    Raises HarnessError, with the line, for what is more than that.
    """
    lines = text.replace("\r\n", "\n").removeprefix("\ufeff").split("\n")
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip() or line.lstrip().startswith("#") or line.strip() in ("---", "..."):
            continue
        key = _KEY.fullmatch(line)
        if key is None:
            raise HarnessError("not read as YAML: expected key: text", where=f"{where}:{at}")
        value = key[2] or ""
        block = []
        while at < len(lines) and (
            not lines[at].strip() or lines[at].startswith((" ", "\t", "- "))
        ):
            block.append(lines[at])
            at += 1
        if re.fullmatch(r"[|>][-+]?\d?", value):
            found[key[1]] = _block(value, block)
        elif value.startswith(('"', "'")):
            found[key[1]] = _quoted(value, block, f"{where}:{at}")
        else:
            found[key[1]] = re.sub(r"\s+#.*", "", value)
    return found


def _block(style: str, lines: Sequence[str]) -> str:
    depth = min((len(line) - len(line.lstrip(" ")) for line in lines if line.strip()), default=0)
    text = "\n".join(line[depth:] for line in lines)
    if style.startswith(">"):
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip("\n"))
    body = text.rstrip("\n")
    if "-" in style:
        return body
    return text + "\n" if "+" in style else body + "\n"


def _quoted(value: str, more: Sequence[str], where: str) -> str:
    """A quoted text: a line break in it is a space, and one behind a backslash is nothing."""
    lines = [value, *(line.strip() for line in more)]
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    text = "\n".join(lines)
    if value[0] == "'":
        whole = re.fullmatch(r"'((?:[^']|'')*)'(?:\s+#.*)?", text)
        if whole:
            return _folded(whole[1]).replace("''", "'")
    whole = re.fullmatch(r'"((?:[^"\\]|\\.|\\\n)*)"(?:\s+#.*)?', text, re.DOTALL)
    if whole:
        inner = re.sub(r"\\\n\\?", "", whole[1])
        try:
            return str(json.loads(f'"{_folded(inner)}"', strict=False))
        except ValueError:
            pass
    raise HarnessError("not read as YAML: a quoted text does not end", where=where)


def _folded(text: str) -> str:
    return re.sub(r"\n+", lambda breaks: "\n" * (len(breaks[0]) - 1) or " ", text)


def old_template_renderer(facts: Mapping[str, str], where: str) -> Renderer:
    """An older file (user, bot, turn_template, context) as a function from messages to text.

    Raises HarnessError for one without both messages in turn_template.
    """
    turn = unspell_tokens(facts.get("turn_template", ""))
    if any(turn.count(place) != 1 for place in _PLACES) or turn.find(_PLACES[0]) > turn.find(
        _PLACES[1]
    ):
        raise HarnessError(
            "no instruction template of text-generation-webui: it has no instruction_template, and "
            f"no turn_template with {' and '.join(_PLACES)}",
            where=where,
        )
    named = turn.replace("<|user|>", unspell_tokens(facts.get("user", "")))
    before, behind = named.split(_PLACES[0])
    middle, closes = behind.split(_PLACES[1])
    ends, bot, opens = middle.partition("<|bot|>")
    opens = unspell_tokens(facts.get("bot", "")) + opens if bot else ""
    context = unspell_tokens(facts.get("context", ""))
    pre, system, post = context.partition("<|system-message|>")
    default = unspell_tokens(facts.get("system_message", ""))

    def pieces(messages: Sequence[Message]) -> Iterator[str]:
        if not any(message.role == "system" for message in messages):
            yield pre + default + post
        rounds = 0
        for message in messages:
            if message.role == "system":
                yield (pre + message.content + post) if system else message.content + "\n"
            elif message.role == "user":
                yield before.replace("<|round|>", str(rounds)) + message.content + ends
                rounds += 1
            else:
                yield opens + message.content + closes

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        return "".join(pieces(messages)) + opens.rstrip(" ") * add_generation_prompt

    return render
