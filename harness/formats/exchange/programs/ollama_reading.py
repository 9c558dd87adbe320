"""Read Ollama's Modelfiles and Go templates as pieces of text.

Ollama renders prompts and no training text: an answer that comes last is one to go on with, often
without its stop. So the pieces are found between placeholders in three prompts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.conversation import Message
from harness.errors import HarnessError
from harness.formats.exchange.programs.go_template import GoFaultError, GoTemplate, Struct
from harness.formats.exchange.programs.special_tokens import unspell_tokens
from harness.formats.turns import BOS, EOS, Renderer, Turns, between_words, shown, turns_of_history

_NAMES = (
    *("from", "template", "system", "parameter", "message", "adapter", "draft", "license"),
    *("requires", "renderer", "parser"),
)
_INSTRUCTION = re.compile(rf"[ \t]*({'|'.join(_NAMES)})[ \t]+(.*)", re.IGNORECASE)
_PIECE = re.compile(rf"<[^<>\s]*>|\[[^\[\]\s]*\]|[{BOS}{EOS}]|.", re.DOTALL)
_SYS, _U1, _A1, _U2 = (f"Zq{word}qZ" for word in ("sys", "one", "two", "three"))
_PROBE = (Message("user", _U1), Message("assistant", _A1), Message("user", _U2))


@dataclass(frozen=True, slots=True)
class Modelfile:
    """What a Modelfile says about the format."""

    template: str
    system: str = ""
    stops: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def is_modelfile(text: str) -> bool:
    """Whether a text reads like a Modelfile: an instruction FROM or TEMPLATE at a line's start."""
    return bool(re.search(r"^[ \t]*(?:FROM[ \t]+\S|TEMPLATE[ \t]+\S)", text, re.MULTILINE))


def is_go_template(text: str) -> bool:
    """Whether a text has actions of Go's with Ollama's fields."""
    fields = r"\.(?:Messages|Prompt|System|Response|Content|Role)\b"
    return bool(re.search(r"\{\{[^{}]*" + fields + r"[^{}]*\}\}", text))


def read_modelfile(text: str) -> Modelfile:
    """The instructions of a Modelfile. Raises HarnessError where it has no TEMPLATE."""
    template, system, stops, lost = None, "", [], dict[str, None]()
    for name, written in read_instructions(text):
        if name == "template":
            template = _unquoted(written)
        elif name == "system":
            system = _unquoted(written) or ""
        elif name == "parameter" and written.split()[:1] == ["stop"]:
            stops.append(_unquoted(written.partition("stop")[2].strip()) or "")
        elif name == "parameter":
            lost["PARAMETER: settings of generation other than stop"] = None
        elif name == "message":
            lost["MESSAGE: turns that come before every conversation"] = None
        elif name in ("adapter", "renderer", "parser"):
            lost[f"{name.upper()} {written}"] = None
    if template is None:
        raise HarnessError(
            "the Modelfile has no TEMPLATE, so Ollama takes the model's own",
            hint="import the GGUF file instead, or write: ollama show --modelfile NAME",
        )
    return Modelfile(template, system, tuple(dict.fromkeys(filter(None, stops))), tuple(lost))


def read_parameters(text: str) -> list[tuple[str, str]]:
    """The parameters of a Modelfile in their order, such as ``("stop", "<|im_end|>")``."""
    written = [value for name, value in read_instructions(text) if name == "parameter"]
    pairs = (value.partition(" ") for value in written)
    return [(key, _unquoted(value.strip()) or "") for key, _, value in pairs]


def read_instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction with its value, which goes on over lines until its quotation mark."""
    lines = iter(text.replace("\r\n", "\n").split("\n"))
    for line in lines:
        instruction = _INSTRUCTION.fullmatch(line)
        if instruction is None:
            continue
        name, value = instruction[1].lower(), instruction[2].strip()
        if name in ("parameter", "message"):
            key, _, value = value.partition(" ")
        while _unquoted(value.strip()) is None and (more := next(lines, None)) is not None:
            value += "\n" + more
        value = value.strip()
        yield name, f"{key} {value}" if name in ("parameter", "message") else value


def _unquoted(value: str) -> str | None:
    """A value without its quotation marks, which know no escapes; None where one is missing."""
    for quote in ('"""', '"'):
        if value.startswith(quote):
            ends = value.endswith(quote) and len(value) >= 2 * len(quote)
            return value[len(quote) : -len(quote)] if ends else None
    return value


def ollama_renderer(source: str, system: str = "") -> Renderer:
    """A Go template as a function from messages to the prompt that Ollama sends.

    None where it refuses the messages, and for a text without generation prompt, which Ollama does
    not write. ``system`` is the Modelfile's, for conversations without a system prompt. Spellings
    of BOS and EOS become their characters. Raises HarnessError for a template that is not read.
    """
    write = ollama_prompts(source, system)

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        if not add_generation_prompt:
            return None
        try:
            return unspell_tokens(write(messages))
        except GoFaultError:
            return None

    return render


def ollama_prompts(source: str, system: str = "") -> Callable[[Sequence[Message]], str]:
    """The same, with the text as it is sent; the function raises GoFaultError for a refusal."""
    try:
        template = GoTemplate(source.replace("\r\n", "\n"))
    except RecursionError:
        raise HarnessError("the Go template is nested too deeply") from None

    def write(messages: Sequence[Message]) -> str:
        turns = list(messages)
        if system and not (turns and turns[0].role == "system"):
            turns.insert(0, Message("system", system))
        return _prompt(template, turns)

    return write


def _prompt(template: GoTemplate, messages: Sequence[Message]) -> str:
    """As Ollama's Execute: all messages at once, or in older templates one exchange at a time."""
    merged: list[tuple[str, str]] = []
    for message in messages:
        if merged and merged[-1][0] == message.role:
            merged[-1] = (message.role, f"{merged[-1][1]}\n\n{message.content}")
        else:
            merged.append((message.role, message.content))
    common = {"Think": False, "IsThinkSet": False}
    if "Messages" in template.names:
        system = "\n\n".join(message.content for message in messages if message.role == "system")
        rows = [_message(role, content) for role, content in merged]
        data = {"System": system, "Messages": rows, "Tools": None, "Response": "", **common}
        return template.write(data)
    parts: list[str] = []
    now = {"System": "", "Prompt": "", "Response": ""}
    keys = {"system": "System", "user": "Prompt", "assistant": "Response"}
    ended = "" if "Response" in template.names else "Response"
    for role, content in merged:
        later = {"system": ("Prompt", "Response"), "user": ("Response",)}.get(role, ())
        if any(now[key] for key in later):
            parts.append(template.write({**now, **common}) + now.get(ended, ""))
            now = dict.fromkeys(now, "")
        if role in keys:
            now[keys[role]] = content
    until = template.write({**now, **common}, until="Response")
    return "".join([*parts, until, now.get(ended, "")])


def _message(role: str, content: str) -> Struct:
    return Struct(
        Role=role,
        Content=content,
        Thinking="",
        Images=None,
        ToolCalls=None,
        ToolName="",
        ToolCallID="",
    )


def turns_of_prompts(render: Renderer) -> Turns:
    """The pieces of a format that only writes prompts.

    Raises HarnessError with the reason for one that is more than such pieces.
    """
    begin, asks = between_words(_prompt_of(render, _PROBE[:1]), (_U1,))
    again, ask, between, asks_later = between_words(_prompt_of(render, _PROBE), (_U1, _A1, _U2))
    if begin != again:
        raise HarnessError("the text before the first question depends on what follows it")
    opened = asks.rstrip(" ")
    if not ask.startswith(opened) or asks_later != asks:
        raise HarnessError(
            f"an answer is asked for by {shown(asks_later)}, and one of the history comes behind "
            f"{shown(ask)}: a rule about the position"
        )
    turns = turns_of_history(begin, _common_end(begin, between), asks, ask, between)
    whole = render((Message("system", _SYS), *_PROBE), True)
    if whole is None or _SYS not in whole:
        return turns
    system_open, system_close, *rest = between_words(whole, (_SYS, _U1, _A1, _U2))
    if rest != [ask, between, asks_later]:
        raise HarnessError("a system prompt changes the other turns: a rule about the position")
    return replace(turns, system_open=system_open, system_close=system_close)


def _prompt_of(render: Renderer, messages: Sequence[Message]) -> str:
    text = render(messages, True)
    if text is None:
        raise HarnessError("a plain conversation cannot be rendered")
    return text


def _common_end(one: str, other: str) -> str:
    """The longest text that both end with, in whole tags."""
    pieces = [_PIECE.findall(text)[::-1] for text in (one, other)]
    same = 0
    for left, right in zip(*pieces, strict=False):
        if left != right:
            break
        same += 1
    return "".join(pieces[0][:same][::-1])
