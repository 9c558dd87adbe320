"""Write the Jinja template of a SillyTavern preset (programs/preset.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.formats.exchange.programs.macros import CHAR, NAME, USER
from harness.formats.exchange.programs.preset import Preset
from harness.formats.turns import BOS, EOS, without_tokens
from harness.formats.turns_template import jinja_literal

_LONGEST_HEADER = 60
"""Most characters of a system prompt's header; what is longer is a text of its own."""
_USER = "user_name | default('User')"
_CHAR = "assistant_name | default('Assistant')"
_NAMES = {
    "user": {NAME: f"(message['name'] | default({_USER}))"},
    "assistant": {NAME: f"(message['name'] | default({_CHAR}))"},
    "prompt": {NAME: f"({_CHAR})"},
    "next": {NAME: f"(loop.nextitem['name'] | default({_USER}))"},
}
_COMMON = {BOS: "bos_token", EOS: "eos_token", USER: f"({_USER})", CHAR: f"({_CHAR})"}


@dataclass(frozen=True, slots=True)
class Written:
    """A template of ours, what ends its answers, and the facts and headers of its front matter."""

    template: str
    mark: str
    facts: Mapping[str, str | Sequence[str]]
    roles: Mapping[str, str]


def written_preset(preset: Preset) -> Written:
    """The template with generation marks, and what the front matter says of it."""
    template = "\n".join(_Writer(preset).lines()) + "\n"
    story = preset.story
    own = story is not None and (story.before + story.after).strip()
    named = "user_name" in template or "assistant_name" in template
    headers = {
        "system": story.before if story and len(story.before) <= _LONGEST_HEADER else "",
        "user": preset.user.opens,
        "assistant": preset.answer.last,
    }
    return Written(
        template,
        preset.mark,
        {
            "system": "unsupported" if story is None else "own" if own else "prefix",
            "names": "prefix" if preset.names else "header" if named else "none",
            "stops": tuple(dict.fromkeys([*_stops(preset), *preset.stop_lines])),
            "eos": "after every assistant turn"
            if EOS in preset.mark
            else "none; the mark ends the answer"
            if preset.mark
            else "once, at the end of a conversation",
        },
        {role: text for role, header in headers.items() if (text := _header(header, role))},
    )


def _header(text: str, role: str) -> str:
    speaker = "{assistant_name}" if role == "assistant" else "{user_name}"
    for mark, written in ((NAME, speaker), (USER, "{user_name}"), (CHAR, "{assistant_name}")):
        text = text.replace(mark, written)
    return without_tokens(text)


def _stops(preset: Preset) -> Iterator[str]:
    if preset.names:
        yield "\n{user_name}:"
    marks = without_tokens(preset.mark)
    if marks:
        yield _header(marks, "assistant")
    elif not preset.mark:
        for role, turn in (("user", preset.user), ("assistant", preset.answer)):
            if (header := _header(turn.opens, role)) and not preset.names:
                starts = turn.opens.split(header.partition("{")[0] or "\n")[0]
                yield "\n" * ("\n" in preset.answer.closes + starts) + header


def _expression(text: str, place: str = "") -> str:
    """Text as a Jinja expression; ``place`` says whose name a name is."""
    names = {**_COMMON, **_NAMES.get(place, {})}
    parts = [part for part in re.split(f"([{BOS}{EOS}{USER}{CHAR}{NAME}])", text) if part]
    return " + ".join(names.get(part) or jinja_literal(part) for part in parts) or "''"


def _write(text: str, place: str, depth: int) -> Iterator[str]:
    if text:
        yield f"{'    ' * depth}{{{{- {_expression(text, place)} }}}}"


def _either(condition: str, first: str, second: str, place: str, depth: int) -> Iterator[str]:
    """The first text where the condition holds, else the second; equal ones need no condition."""
    if first == second:
        yield from _write(first, place, depth)
        return
    indent = "    " * depth
    yield f"{indent}{{%- if {condition} %}}"
    yield from _write(first, place, depth + 1)
    yield f"{indent}{{%- else %}}"
    yield from _write(second, place, depth + 1)
    yield f"{indent}{{%- endif %}}"


@dataclass(frozen=True)
class _Writer:
    preset: Preset

    def lines(self) -> Iterator[str]:
        preset = self.preset
        yield "{%- set has_system = messages and messages[0]['role'] == 'system' %}"
        yield "{%- set chat = messages[1:] if has_system else messages %}"
        if preset.user.last != preset.user.opens or preset.user.first != preset.user.opens:
            yield "{%- set last = namespace(user=-1) %}"
            yield "{%- for message in chat %}"
            yield "    {%- if message['role'] == 'user' %}"
            yield "        {%- set last.user = loop.index0 %}"
            yield "    {%- endif %}"
            yield "{%- endfor %}"
        yield from self._story()
        yield from _write(preset.chat_start, "prompt", 0)
        if preset.alignment:
            filler = preset.user.first + preset.alignment + preset.user.closes
            yield "{%- if not chat or chat[0]['role'] != 'user' %}"
            yield from _write(filler.replace(NAME, USER), "", 1)
            yield "{%- endif %}"
        yield "{%- for message in chat %}"
        yield "    {%- if message['role'] == 'system' %}"
        yield f"        {{{{- {self._around(preset.system.opens, preset.system.closes)} }}}}"
        yield "    {%- elif message['role'] == 'user' %}"
        yield from self._question()
        yield "    {%- else %}"
        yield from self._answer()
        yield "    {%- endif %}"
        yield "{%- endfor %}"
        yield "{%- if add_generation_prompt %}"
        yield from self._lead("chat[-1]", 1)
        yield from _write(preset.answer.last, "prompt", 1)
        yield "{%- endif %}"

    def _story(self) -> Iterator[str]:
        story, without = self.preset.story, self.preset.without_system
        if story is None:
            yield "{%- if has_system %}"
            yield "    {{- raise_exception('this preset leaves the system prompt out') }}"
            yield "{%- endif %}"
            yield from _write(without, "", 0)
            return
        words = "messages[0]['content']"
        words += ".lstrip('\\n')" * story.strips_start + ".rstrip('\\n')" * story.strips_end
        if story.ends_line:
            parts = [f"({words} if {words}.endswith('\\n') else {words} + '\\n')"]
        else:
            parts = [words]
        parts = [_expression(story.before)] * bool(story.before) + parts
        parts += [_expression(story.after)] * bool(story.after)
        yield "{%- if has_system" + " and messages[0]['content']" * (not story.writes_empty) + " %}"
        yield f"    {{{{- {' + '.join(parts)} }}}}"
        if without:
            yield "{%- else %}"
            yield from _write(without, "", 1)
        yield "{%- endif %}"

    def _around(self, before: str, after: str, place: str = "") -> str:
        parts = [_expression(before, place)] * bool(before) + ["message['content']"]
        return " + ".join(parts + [_expression(after, place)] * bool(after))

    def _question(self) -> Iterator[str]:
        user = self.preset.user
        varies = user.last != user.opens or user.first != user.opens
        depth = 2
        if trained := self._next_header(user.opens):
            rest = (self.preset.answer.closes + user.opens)[len(trained) :]
            last = (self.preset.answer.closes + user.last)[len(self._next_header(user.last)) :]
            yield "        {%- if not loop.first and loop.previtem['role'] == 'assistant' %}"
            yield from _either("loop.index0 == last.user", last, rest, "user", 3)
            yield "        {%- else %}"
            depth = 3
        yield from self._question_opens(depth, varies=varies)
        if trained:
            yield "        {%- endif %}"
        yield f"        {{{{- {self._around('', user.closes, 'user')} }}}}"

    def _question_opens(self, depth: int, *, varies: bool) -> Iterator[str]:
        user, indent = self.preset.user, "    " * depth
        if not varies:
            yield from _write(user.opens, "user", depth)
            return
        yield f"{indent}{{%- if loop.index0 == last.user %}}"
        yield from _write(user.last, "user", depth + 1)
        if user.first != user.opens:
            yield f"{indent}{{%- elif loop.first %}}"
            yield from _write(user.first, "user", depth + 1)
        yield f"{indent}{{%- else %}}"
        yield from _write(user.opens, "user", depth + 1)
        yield f"{indent}{{%- endif %}}"

    def _next_header(self, opens: str) -> str:
        """What a model must learn to write behind an answer where no mark ends it."""
        return "" if self.preset.mark else (self.preset.answer.closes + opens).rstrip(" \n")

    def _answer(self) -> Iterator[str]:
        preset = self.preset
        asked, glue = preset.asks
        opens = preset.answer.opens.rstrip(" ")
        spaces = preset.answer.opens[len(opens) :]
        if not preset.last_differs:
            opens, spaces = asked, glue
        first = preset.answer.first.rstrip(" ")
        variants: list[tuple[str, str, str]] = []
        if preset.last_differs:
            variants.append(("loop.last and not add_generation_prompt", asked, glue))
        if preset.answer.first != preset.answer.opens:
            variants.append(("loop.first", first, preset.answer.first[len(first) :]))
        differing = {glue for *_, glue in variants} - {spaces}
        for number, (condition, header, _) in enumerate(variants):
            yield f"        {{%- {'elif' if number else 'if'} {condition} %}}"
            if header == asked and "add_generation_prompt" in condition:
                yield from self._lead("loop.previtem", 3)
            yield from _write(header, "assistant", 3)
        if variants:
            yield "        {%- else %}"
        yield from _write(opens, "assistant", 3 if variants else 2)
        if variants:
            yield "        {%- endif %}"
        yield "        {%- generation %}"
        if differing:
            cases = "".join(
                f"{jinja_literal(glue)} if {condition} else " for condition, _, glue in variants
            )
            yield f"            {{{{- {cases}{jinja_literal(spaces)} }}}}"
            spaces = ""
        yield from self._answer_ends(spaces)

    def _answer_ends(self, glue: str) -> Iterator[str]:
        preset = self.preset
        stop = preset.answer.closes.rstrip(" \n") if preset.mark else ""
        rest = preset.answer.closes[len(stop) :]
        yield f"            {{{{- {self._around(glue, stop, 'assistant')} }}}}"
        if preset.mark:
            yield "        {%- endgeneration %}"
            yield from _write(rest, "assistant", 2)
            return
        header, last = self._next_header(preset.user.opens), self._next_header(preset.user.last)
        yield "            {%- if loop.last and not add_generation_prompt %}"
        yield "                {{- eos_token }}"
        if header:
            yield "            {%- elif not loop.last and loop.nextitem['role'] == 'user' %}"
            yield from _either("loop.index == last.user", last, header, "next", 4)
        yield "            {%- endif %}"
        yield "        {%- endgeneration %}"
        if rest:
            ends = "loop.last and not add_generation_prompt"
            asks = " or (not loop.last and loop.nextitem['role'] == 'user')" * bool(header)
            yield f"        {{%- if not ({ends}{asks}) %}}"
            yield from _write(rest, "assistant", 3)
            yield "        {%- endif %}"

    def _lead(self, before: str, depth: int) -> Iterator[str]:
        """The newline before the line that asks for an answer."""
        preset, indent = self.preset, "    " * depth
        user, answer = preset.lead(preset.user.closes), preset.lead(preset.answer.closes)
        if not user and not answer:
            return
        is_there = "chat" if before == "chat[-1]" else "not loop.first"
        roles = [role for role, lead in (("user", user), ("assistant", answer)) if lead]
        which = f" and {before}['role'] == '{roles[0]}'" if len(roles) == 1 else ""
        yield f"{indent}{{%- if {is_there}{which} %}}"
        yield f"{indent}    {{{{- '\\n' }}}}"
        yield f"{indent}{{%- endif %}}"
