"""Write the Jinja template of a format that is given by its pieces (harness.formats.turns)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.formats.turns import BOS, EOS, Turns


def template_of(turns: Turns) -> str:
    """The Jinja template that writes these pieces, with generation marks."""
    return "\n".join(_template_lines(turns)) + "\n"


def _template_lines(turns: Turns) -> Iterator[str]:
    words = {
        role: f"message['content']{' | trim' if role in turns.trims else ''}"
        for role in ("system", "user", "assistant")
    }
    yield from _before_the_loop(turns)
    yield "{%- for message in messages %}"
    if turns.has_own_system_block and not _always_opened(turns) and turns.opening:
        yield "    {%- if loop.first and message['role'] != 'system' %}"
        yield f"        {{{{- {jinja_text(turns.opening)} }}}}"
        yield "    {%- endif %}"
    yield "    {%- if message['role'] == 'system' %}"
    yield from _system_lines(turns, words["system"])
    yield "    {%- elif message['role'] == 'user' %}"
    if turns.has_own_system_block:
        yield from _question_lines(turns, words["user"])
    else:
        yield "        {%- if loop.first %}"
        yield f"            {{{{- {jinja_text(turns.begin)} }}}}"
        yield "        {%- elif not ns.opened %}"
        yield f"            {{{{- {jinja_text(turns.user_open)} }}}}"
        yield "        {%- endif %}"
        yield "        {%- set ns.opened = false %}"
        yield f"        {{{{- {joined('', words['user'], turns.user_close)} }}}}"
    yield "    {%- else %}"
    yield from _answer_lines(turns, words["assistant"])
    yield "    {%- endif %}"
    yield "{%- endfor %}"
    if turns.assistant_open:
        yield "{%- if add_generation_prompt %}"
        yield f"    {{{{- {jinja_text(turns.assistant_open)} }}}}"
        yield "{%- endif %}"


def _question_lines(turns: Turns, words: str) -> Iterator[str]:
    header = turns.user_open[len(turns.separator) :]
    trained = _trained_header(turns)
    mark = header.rstrip(" \n") if trained else ""
    if trained:
        yield "        {%- if loop.first or loop.previtem['role'] != 'assistant' %}"
    indent = "    " * bool(trained)
    if turns.separator:
        yield f"        {indent}{{%- if not loop.first %}}"
        yield f"            {indent}{{{{- {jinja_text(turns.separator)} }}}}"
        yield f"        {indent}{{%- endif %}}"
    if trained:
        yield f"            {{{{- {jinja_text(mark)} }}}}"
        yield "        {%- endif %}"
    yield f"        {{{{- {joined(header[len(mark) :], words, turns.user_close)} }}}}"


def _trained_header(turns: Turns) -> str:
    """The next question's header where no mark ends an answer: a model must learn to write it."""
    text = (turns.answer_close + turns.user_open).rstrip(" \n")
    return "" if turns.stop.strip() or not turns.has_own_system_block else text


def _always_opened(turns: Turns) -> bool:
    """Whether the opening comes first with a system prompt too."""
    return turns.system_open is None or turns.system_open.startswith(turns.opening)


def _before_the_loop(turns: Turns) -> Iterator[str]:
    if not turns.has_own_system_block:
        yield "{%- set ns = namespace(opened=false) %}"
    elif _always_opened(turns) and turns.opening:
        yield f"{{{{- {jinja_text(turns.opening)} }}}}"


def _system_lines(turns: Turns, words: str) -> Iterator[str]:
    if turns.system_open is None or turns.system_close is None:
        yield "        {{- raise_exception('this format has no system prompt') }}"
        return
    if turns.has_own_system_block:
        opens, closes = turns.system_open, turns.system_close.removesuffix(turns.user_open)
        if _always_opened(turns):
            yield f"        {{{{- {joined(opens.removeprefix(turns.opening), words, closes)} }}}}"
            return
        if opens.startswith(BOS):
            yield "        {%- if loop.first %}"
            yield "            {{- bos_token }}"
            yield "        {%- endif %}"
        yield f"        {{{{- {joined(opens.removeprefix(BOS), words, closes)} }}}}"
        return
    yield "        {%- if not loop.first %}"
    yield "            {{- raise_exception('a system message can only stand first') }}"
    yield "        {%- endif %}"
    yield f"        {{{{- {joined(turns.system_open, words, turns.system_close)} }}}}"
    yield "        {%- set ns.opened = true %}"


def _answer_lines(turns: Turns, words: str) -> Iterator[str]:
    if turns.assistant_open:
        yield f"        {{{{- {jinja_text(turns.assistant_open)} }}}}"
    yield "        {%- generation %}"
    yield f"            {{{{- {joined(turns.answer_glue, words, turns.stop)} }}}}"
    if turns.final:
        yield "            {%- if loop.last and not add_generation_prompt %}"
        yield f"                {{{{- {jinja_text(turns.final)} }}}}"
        yield "            {%- endif %}"
    if trained := _trained_header(turns):
        yield "            {%- if not loop.last and loop.nextitem['role'] == 'user' %}"
        yield f"                {{{{- {jinja_text(trained)} }}}}"
        yield "            {%- endif %}"
        yield "        {%- endgeneration %}"
        if turns.answer_close:
            place = "not loop.last and" if turns.final else "loop.last or"
            yield f"        {{%- if {place} loop.nextitem['role'] != 'user' %}}"
            yield f"            {{{{- {jinja_text(turns.answer_close)} }}}}"
            yield "        {%- endif %}"
        return
    yield "        {%- endgeneration %}"
    if turns.answer_close and turns.final:
        yield "        {%- if not loop.last %}"
        yield f"            {{{{- {jinja_text(turns.answer_close)} }}}}"
        yield "        {%- endif %}"
    elif turns.answer_close:
        yield f"        {{{{- {jinja_text(turns.answer_close)} }}}}"


def joined(before: str, words: str, after: str) -> str:
    """A Jinja expression that writes text, words, text."""
    return " + ".join(
        part for part in (before and jinja_text(before), words, after and jinja_text(after)) if part
    )


def jinja_text(text: str) -> str:
    """A Jinja expression that writes this text, its BOS and EOS as the tokenizer's."""
    names = {BOS: "bos_token", EOS: "eos_token"}
    parts = [part for part in re.split(f"([{BOS}{EOS}])", text) if part]
    return " + ".join(names.get(part) or jinja_literal(part) for part in parts) or "''"


_ESCAPES = str.maketrans({"\\": r"\\", "'": r"\'", "\n": r"\n", "\t": r"\t", "\r": r"\r"})


def jinja_literal(text: str) -> str:
    """Text as a Jinja string."""
    return f"'{text.translate(_ESCAPES)}'"
