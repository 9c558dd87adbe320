"""Our formats in the words of other programs. Nothing is handed out that was not read back and compared."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.errors import HarnessError
from harness.exchange.importing import differences, renderer_of
from harness.exchange.sources import preset_renderer
from harness.formats.foreign import foreign_renderer
from harness.formats.turns import BOS, EOS, Renderer, Turns, jinja_literal, read_turns
from harness.records import Format, Message

_GENERATION = re.compile(r"[ \t]*\{%-? *(?:end)?generation *-?%\}\n?")
#: How BOS and EOS are spelt where a program has no variable for them.
_SPELT_BOS, _SPELT_EOS = "<s>", "</s>"


@dataclass(frozen=True)
class Exported:
    """The text for another program, and a sentence for each thing that it does not keep."""

    text: str
    lost: tuple[str, ...] = ()


class _Target(NamedTuple):
    """How a program's text is written and read; whether it spells BOS and EOS, and leaves the first BOS to its server."""

    write: Callable[[Format], str]
    read: Callable[[str], Renderer]
    spells_tokens: bool = False


def export_format(format: Format, target: str) -> Exported:
    """Write a format for a program and read it back. Raises HarnessError when the program cannot express it."""
    program = TARGETS[target]
    refused = f"{format.id} cannot be written for {target}"
    try:
        text = program.write(format)
    except HarnessError as error:
        raise HarnessError(f"{refused}: {error.message}") from None
    theirs, ours = program.read(text), renderer_of(format)
    if program.spells_tokens:
        theirs, ours = _unspelling(theirs), _without_bos(ours)
    wrong, lost = differences(theirs, ours, system=format.system != "unsupported")
    if wrong:
        raise HarnessError(f"{refused}: {wrong}")
    if program.spells_tokens and "eos_token" in format.template:
        lost.append(f"EOS is spelt {_SPELT_EOS}: put your model's in its place")
    if format.names != "none":
        lost.append("speakers' names: the program's own names stand there")
    return Exported(text, tuple(lost))


def _unspelling(read: Renderer) -> Renderer:
    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        text = read(messages, add_generation_prompt)
        return None if text is None else text.replace(_SPELT_BOS, BOS).replace(_SPELT_EOS, EOS)

    return render


def _without_bos(read: Renderer) -> Renderer:
    """Front ends leave the first BOS to the server that they talk to."""

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        text = read(messages, add_generation_prompt)
        return None if text is None else text.removeprefix(BOS)

    return render


def _spelt(text: str) -> str:
    return text.replace(BOS, _SPELT_BOS).replace(EOS, _SPELT_EOS)


def _front_end_turns(format: Format) -> Turns:
    """The pieces, without the first BOS."""
    turns = read_turns(renderer_of(format))
    opens = turns.system_open
    return replace(turns, begin=turns.begin.removeprefix(BOS), system_open=None if opens is None else opens.removeprefix(BOS))


# Jinja, for transformers, llama.cpp, text-generation-webui and axolotl


def _marked(format: Format) -> str:
    names = [name for name in ("assistant_name", "user_name") if name in format.template]
    defaults = {"assistant_name": "Assistant", "user_name": "User"}
    return "".join(f"{{%- set {name} = {name} | default({jinja_literal(defaults[name])}, true) %}}\n" for name in names) + format.template


def _plain(format: Format) -> str:
    """Without generation marks, which only training reads and llama.cpp does not know."""
    return _GENERATION.sub("", _marked(format))


def _jinja(text: str) -> Renderer:
    return foreign_renderer(text, where="the exported template")


def _block(key: str, text: str, head: str = "") -> str:
    """A YAML block scalar. The template's last newline is no part of it."""
    lines = text.rstrip("\n").split("\n")
    return head + f"{key}: |-\n" + "".join(f"  {line}\n" if line else "\n" for line in lines)


def _unblock(key: str) -> Callable[[str], Renderer]:
    def read(text: str) -> Renderer:
        lines = text.partition(f"{key}: |-\n")[2].split("\n")
        block = []
        for line in lines:
            if line and not line.startswith("  "):
                break
            block.append(line[2:])
        return _jinja("\n".join(block).rstrip("\n"))

    return read


def _webui(format: Format) -> str:
    return _block("instruction_template", _plain(format))


def _axolotl(format: Format) -> str:
    head = f"# {format.id}, for axolotl: put this into your config\nchat_template: jinja\n"
    stops = json.dumps([stop for stop in format.stops if stop == stop.strip()], ensure_ascii=False)
    dataset = (
        "datasets:\n  - path: your-data.jsonl\n    type: chat_template\n    field_messages: messages\n    roles_to_train: [assistant]\n    train_on_eos: turn\n"
    )
    tail = f"eot_tokens: {stops}\n" if format.stops and stops != "[]" else ""
    return _block("chat_template_jinja", _plain(format), head) + tail + dataset


# SillyTavern


def _sillytavern(format: Format) -> str:
    turns = _front_end_turns(format)
    closes = (turns.system_close or "").removesuffix(turns.begin)
    if turns.system_close is not None and not turns.system_close.endswith(turns.begin):
        raise HarnessError("the first question is written otherwise behind a system prompt than without one")
    story = _spelt(turns.system_open or "") + "{{#if system}}{{system}}{{/if}}" + _spelt(closes)
    sequence = _spelt(turns.assistant_open + turns.answer_glue)
    preset = {
        "instruct": {
            "name": format.id,
            "input_sequence": _spelt(turns.user_open),
            "first_input_sequence": _spelt(turns.begin) if turns.begin != turns.user_open else "",
            "input_suffix": _spelt(turns.user_close),
            "output_sequence": sequence,
            "output_suffix": _spelt(turns.stop + turns.answer_close),
            "last_output_sequence": _spelt(turns.assistant_open) if turns.answer_glue else "",
            "system_sequence": "",
            "system_suffix": "",
            "stop_sequence": "\n".join(stop for stop in format.stops if "\n" not in stop),
            "wrap": False,
            "macro": True,
            "names_behavior": "none",
            "system_same_as_user": True,
        },
        "context": {"name": format.id, "story_string": story},
    }
    return json.dumps(preset, indent=4, ensure_ascii=False) + "\n"


def _read_sillytavern(text: str) -> Renderer:
    facts = json.loads(text)
    inner = preset_renderer(facts["instruct"], facts["context"])
    return lambda messages, add_generation_prompt: inner(messages, True) if add_generation_prompt else None  # a chat always waits for an answer


# Ollama: a Go template of actions and string literals only, so that no white space of the file is ever text


def _ollama(format: Format) -> str:
    turns = _front_end_turns(format)
    body = "\n".join(_go_lines(turns))
    stops = "".join(f"PARAMETER stop {_go(stop)}\n" for stop in format.stops)
    return f'# {format.id}, for ollama: put this into your Modelfile\nTEMPLATE """{body}"""\n{stops}'


def _go_lines(turns: Turns) -> Iterator[str]:
    own, sep = turns.has_own_system_block, turns.separator
    with_opening = turns.system_open is None or turns.system_open.startswith(turns.opening)
    if own and turns.opening and with_opening:
        yield f"{{{{- {_go(turns.opening)} }}}}"
    yield "{{- range $i, $m := .Messages }}"
    yield '{{- if eq $m.Role "system" }}'
    if turns.system_open is not None and turns.system_close is not None:
        opens = turns.system_open.removeprefix(turns.opening) if own and with_opening else turns.system_open
        closes = turns.system_close.removesuffix(turns.user_open) if own else turns.system_close
        yield from _go_words(opens, closes)
    yield '{{- else if eq $m.Role "user" }}'
    if own and turns.opening and not with_opening:
        yield f"{{{{- if eq $i 0 }}}}{{{{- {_go(turns.opening)} }}}}{{{{- end }}}}"
    if own and sep:
        yield f"{{{{- if gt $i 0 }}}}{{{{- {_go(sep)} }}}}{{{{- end }}}}"
    if not own:
        yield f"{{{{- if eq $i 0 }}}}{{{{- {_go(turns.begin)} }}}}"
        yield f'{{{{- else if not (and (eq $i 1) (eq (index $.Messages 0).Role "system")) }}}}{{{{- {_go(turns.user_open)} }}}}{{{{- end }}}}'
    yield from _go_words(turns.user_open[len(sep) :] if own else "", turns.user_close)
    yield "{{- else }}"
    yield from _go_words(turns.assistant_open + turns.answer_glue, turns.stop + turns.answer_close)
    yield "{{- end }}"
    yield "{{- end }}"
    if turns.assistant_open:
        yield f"{{{{- {_go(turns.assistant_open)} }}}}"


def _go_words(before: str, after: str) -> Iterator[str]:
    yield f"{{{{- {_go(before)} }}}}" * bool(before) + "{{- $m.Content }}" + f"{{{{- {_go(after)} }}}}" * bool(after)


def _go(text: str) -> str:
    """A Go string literal; Modelfiles end a template at three quotes, which an escaped quote never makes."""
    return json.dumps(_spelt(text), ensure_ascii=False)


_GO_WORDS = (
    ('{{- if eq $m.Role "system" }}', "{%- if m.role == 'system' %}"),
    ('{{- else if eq $m.Role "user" }}', "{%- elif m.role == 'user' %}"),
    ("{{- if eq $i 0 }}", "{%- if loop.index0 == 0 %}"),
    ("{{- if gt $i 0 }}", "{%- if loop.index0 > 0 %}"),
    ('{{- else if not (and (eq $i 1) (eq (index $.Messages 0).Role "system")) }}', "{%- elif not (loop.index0 == 1 and messages[0].role == 'system') %}"),
    ("{{- else }}", "{%- else %}"),
    ("{{- $m.Content }}", "{{- m.content }}"),
    ("{{- range $i, $m := .Messages }}", "{%- for m in messages %}"),
)
_GO_ACTION = re.compile(r'\{\{- (?:"(?:[^"\\]|\\.)*"|[^"{}]|"(?:system|user)")*? ?\}\}')


def _read_ollama(text: str) -> Renderer:
    """The few actions that are written here, as Jinja. Ollama always ends with the generation prompt."""
    found = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    jinja: list[str] = []
    ends: list[str] = []
    words = dict(_GO_WORDS)
    for action in _GO_ACTION.findall(found[1] if found else ""):
        if action == "{{- end }}":
            jinja.append(ends.pop())
            continue
        if action.startswith(("{{- if", "{{- range")):
            ends.append("{%- endif %}" if action.startswith("{{- if") else "{%- endfor %}")
        jinja.append(words.get(action, action))
    inner = foreign_renderer("".join(jinja), where="the exported template")
    return lambda messages, add_generation_prompt: inner(messages, True) if add_generation_prompt else None


# LLaMA-Factory


def _llamafactory(format: Format) -> str:
    turns = read_turns(renderer_of(format))
    if turns.final:
        raise HarnessError("only the last answer ends in EOS, and LLaMA-Factory ends every answer alike")
    if turns.separator or not turns.has_own_system_block:
        raise HarnessError("the first question is written otherwise than later ones, and LLaMA-Factory writes all alike")
    opens, closes = turns.system_open or "", (turns.system_close or "").removesuffix(turns.user_open)
    prefix, default = turns.opening, ""
    if not opens.startswith(prefix):
        prefix = BOS * turns.opening.startswith(BOS)
        block = turns.opening.removeprefix(prefix)
        opens = opens.removeprefix(prefix)
        if not (turns.system_open and block.startswith(opens) and block.endswith(closes)):
            raise HarnessError("what stands before the first question depends on whether there is a system prompt")
        default = block[len(opens) : len(block) - len(closes)]
    else:
        opens = opens.removeprefix(prefix)
    lines = [
        f"# {format.id}, for LLaMA-Factory: put this behind the other templates of src/llamafactory/data/template.py",
        "register_template(",
        f"    name={format.id!r},",
        f"    format_prefix=EmptyFormatter(slots={_slots(prefix)}),",
        f"    format_system=StringFormatter(slots={_slots(opens, closes)}),",
        f"    format_user=StringFormatter(slots={_slots(turns.user_open, turns.user_close + turns.assistant_open)}),",
        f"    format_assistant=StringFormatter(slots={_slots(turns.answer_glue, turns.stop + turns.answer_close)}),",
        f"    default_system={default!r}," * bool(default),
        f"    stop_words={list(format.stops)!r},",
        ")",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _slots(before: str, after: str | None = None) -> str:
    text = before if after is None else before + "{{content}}" + after
    parts = re.split(f"([{BOS}{EOS}])", text)
    names = {BOS: '{"bos_token"}', EOS: '{"eos_token"}'}
    return "[" + ", ".join(names.get(part) or repr(part) for part in parts if part) + "]"


def _read_llamafactory(text: str) -> Renderer:
    call = ast.parse(text).body[-1].value  # type: ignore[attr-defined]  # what was written here: one call
    given = {word.arg: word.value for word in call.keywords}

    def fill(key: str, words: str = "") -> str:
        parts = [ast.literal_eval(element) for element in given[key].keywords[0].value.elts]
        return "".join(
            {"bos_token": BOS, "eos_token": EOS}[next(iter(part))] if isinstance(part, set) else part.replace("{{content}}", words) for part in parts
        )

    default = ast.literal_eval(given["default_system"]) if "default_system" in given else ""

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        """As Template._encode: the prefix, a system block if there is one, then turns; a question brings the assistant's header."""
        system = messages[0].content if messages[0].role == "system" else default
        turns = messages[messages[0].role == "system" :]
        if any(message.role != ("user", "assistant")[index % 2] for index, message in enumerate(turns)) or (turns[-1].role == "user") != add_generation_prompt:
            return None
        written = [fill("format_user" if message.role == "user" else "format_assistant", message.content) for message in turns]
        return fill("format_prefix") + (fill("format_system", system) if system else "") + "".join(written)

    return render


#: What a format can be written for.
TARGETS = {
    "hf": _Target(_plain, _jinja),
    "hf-training": _Target(_marked, _jinja),
    "llamacpp": _Target(_plain, _jinja),
    "webui": _Target(_webui, _unblock("instruction_template")),
    "axolotl": _Target(_axolotl, _unblock("chat_template_jinja")),
    "sillytavern": _Target(_sillytavern, _read_sillytavern, spells_tokens=True),
    "ollama": _Target(_ollama, _read_ollama, spells_tokens=True),
    "llamafactory": _Target(_llamafactory, _read_llamafactory),
}
