"""Ollama's Go templates, made of actions and string literals so that no white space is text."""

from __future__ import annotations

import json
from collections.abc import Iterator

from harness.formats.exchange.programs.ollama_reading import ollama_renderer, read_modelfile
from harness.formats.exchange.programs.special_tokens import front_end_turns, spell_tokens
from harness.formats.turns import Renderer, Turns
from harness.records import Format


def write_ollama(chat_format: Format) -> str:
    """The lines of a Modelfile."""
    turns = front_end_turns(chat_format)
    body = "\n".join(_go_lines(turns))
    stops = "".join(f"PARAMETER stop {_quoted(stop)}\n" for stop in chat_format.stops)
    head = f"# {chat_format.id}, for ollama: put this into your Modelfile\n"
    return f'{head}TEMPLATE """{body}"""\n{stops}'


def _go_lines(turns: Turns) -> Iterator[str]:
    own, sep = turns.has_own_system_block, turns.separator
    with_opening = turns.system_open is None or turns.system_open.startswith(turns.opening)
    if own and turns.opening and with_opening:
        yield f"{{{{- {_go(turns.opening)} }}}}"
    yield "{{- range $i, $m := .Messages }}"
    yield '{{- if eq $m.Role "system" }}'
    if turns.system_open is not None and turns.system_close is not None:
        opens = (
            turns.system_open.removeprefix(turns.opening)
            if own and with_opening
            else turns.system_open
        )
        closes = turns.system_close.removesuffix(turns.user_open) if own else turns.system_close
        yield from _go_words(opens, closes)
    yield '{{- else if eq $m.Role "user" }}'
    if own and turns.opening and not with_opening:
        yield f"{{{{- if eq $i 0 }}}}{{{{- {_go(turns.opening)} }}}}{{{{- end }}}}"
    if own and sep:
        yield f"{{{{- if gt $i 0 }}}}{{{{- {_go(sep)} }}}}{{{{- end }}}}"
    if not own:
        yield f"{{{{- if eq $i 0 }}}}{{{{- {_go(turns.begin)} }}}}"
        elsewhere = '{{- else if not (and (eq $i 1) (eq (index $.Messages 0).Role "system")) }}'
        yield f"{elsewhere}{{{{- {_go(turns.user_open)} }}}}{{{{- end }}}}"
    yield from _go_words(turns.user_open[len(sep) :] if own else "", turns.user_close)
    yield "{{- else }}"
    yield from _go_words(turns.assistant_open + turns.answer_glue, turns.stop + turns.answer_close)
    yield "{{- end }}"
    yield "{{- end }}"
    if turns.assistant_open:
        yield f"{{{{- {_go(turns.assistant_open)} }}}}"


def _go_words(before: str, after: str) -> Iterator[str]:
    yield (
        f"{{{{- {_go(before)} }}}}" * bool(before)
        + "{{- $m.Content }}"
        + f"{{{{- {_go(after)} }}}}" * bool(after)
    )


def _quoted(text: str) -> str:
    """A value of a Modelfile, whose quotation marks know no escapes."""
    mark = '"""' if '"' in text else '"'
    return f"{mark}{text}{mark}"


def _go(text: str) -> str:
    """A Go string literal.

    A Modelfile ends a template at three quotes, which an escaped quote never makes.
    """
    return json.dumps(spell_tokens(text), ensure_ascii=False)


def read_ollama(text: str) -> Renderer:
    """Read a Modelfile's template as Ollama evaluates it; it always asks for an answer."""
    return ollama_renderer(read_modelfile(text).template)
