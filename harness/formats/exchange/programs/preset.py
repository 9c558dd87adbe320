"""A SillyTavern preset as the pieces of text that it writes around the messages of a chat.

What is written follows SillyTavern's prompt as a whole: the story string, the separator of the
chat, a message for alignment, the turns, and the last line, which asks for an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.conversation import Message
from harness.formats.exchange.programs.macros import (
    CHAR,
    NAME,
    SYSTEM,
    USER,
    Macros,
    is_trimmed,
    trimmed,
)
from harness.formats.exchange.programs.special_tokens import unspell_tokens
from harness.formats.exchange.programs.story import fill_story
from harness.formats.turns import EOS, Renderer

DEFAULT_STORY = "{{#if system}}{{system}}\n{{/if}}"
_NO_CONTEXT = (
    "no context preset is given: the system prompt is written by system_sequence (with "
    "--context, as SillyTavern's story string writes it)"
)


@dataclass(frozen=True, slots=True)
class Story:
    """The text around the system prompt, before the chat.

    ``strips_start`` and ``strips_end``: the system prompt loses newlines there. ``ends_line``: a
    newline is added unless the system prompt ends in one. ``writes_empty``: an empty system prompt
    is written, and does not count as none.
    """

    before: str
    after: str = ""
    strips_start: bool = False
    strips_end: bool = False
    ends_line: bool = False
    writes_empty: bool = False

    def write(self, words: str) -> str:
        """The text with this system prompt."""
        words = words.lstrip("\n") if self.strips_start else words
        words = words.rstrip("\n") if self.strips_end else words
        text = self.before + words
        return text + ("\n" if self.ends_line and not words.endswith("\n") else "") + self.after


@dataclass(frozen=True, slots=True)
class Turn:
    """The text before a role's words and after them.

    ``first`` and ``last`` come before the words at the start and at the end of the chat.
    """

    first: str
    opens: str
    last: str
    closes: str


@dataclass(frozen=True, slots=True)
class Preset:
    """What an instruct preset and its context write; names are the characters of macros.py.

    ``story`` is None where a system prompt is left out. ``answer.last`` asks for an answer.
    """

    story: Story | None
    without_system: str
    chat_start: str
    alignment: str
    system: Turn
    user: Turn
    answer: Turn
    wrap: bool
    names: bool
    stop_lines: tuple[str, ...]

    @property
    def mark(self) -> str:
        """What ends an answer: EOS, a control string, or nothing."""
        return self.answer.closes.strip()

    def lead(self, before: str | None) -> str:
        """What comes before the line that asks for an answer; ``before`` ends the turn before it.

        With ``wrap`` it is a newline, unless the turn ends with one.
        """
        return "\n" if self.wrap and before is not None and not before.endswith("\n") else ""

    @property
    def asks(self) -> tuple[str, str]:
        """The line that asks for an answer, and the white space that the answer begins with.

        An answer in the chat's history is often written the same way but for white space.
        """
        asked, opens = self.answer.last, self.answer.opens
        rest = opens[len(asked) :] if opens.startswith(asked) else "x"
        if self.names:
            return asked, rest if not rest.strip() else " "
        return asked, rest if not rest.strip() else ""

    @property
    def last_differs(self) -> bool:
        """Whether the last answer is opened differently from those of the history."""
        asked, glue = self.asks
        leads = self.lead(self.user.closes) + self.lead(self.answer.closes)
        return bool(leads) or asked + glue != self.answer.opens


def read_preset(
    facts: Mapping[str, Any], context: Mapping[str, Any] | None
) -> tuple[Preset, tuple[str, ...]]:
    """A preset's pieces, and one sentence for each thing that is not kept.

    ``context`` is None where none is given. Raises HarnessError for a story string that is not
    read.
    """
    macros = Macros(facts, context or {})
    wrap, does_macros = bool(facts.get("wrap")), bool(facts.get("macro", True))
    separator = "\n" if wrap else ""
    names = facts.get("names_behavior") == "always" or bool(facts.get("names"))

    def raw(key: str) -> str:
        return str(facts.get(key) or "")

    def text(value: str, speaker: str) -> str:
        written = trimmed(macros.expand(value, speaker=speaker)) if does_macros else value
        return unspell_tokens(written.replace("\r", ""))

    def turn(role: str, speaker: str, *, named: bool) -> Turn:
        def opens(key: str) -> str:
            sequence = text(raw(key) or raw(f"{role}_sequence"), speaker)
            return (sequence + separator if sequence else "") + f"{NAME}: " * named

        closing = raw(f"{role}_suffix") or (raw("separator_sequence") if role == "output" else "")
        return Turn(
            opens(f"first_{role}_sequence"),
            opens(f"{role}_sequence"),
            opens(f"last_{role}_sequence"),
            text(closing, speaker) or separator,
        )

    answer = turn("output", NAME, named=names)
    narrator = "input" if facts.get("system_same_as_user") else "system"
    asked = _asks(facts, text(raw("last_output_sequence") or raw("output_sequence"), NAME), names)
    story, without, story_lost = _story(facts, context, macros)
    system = turn(narrator, "System", named=False)
    if story is None and context is None:
        story = Story(system.opens, system.closes, writes_empty=True)
    chat_start = str((context or {}).get("chat_start") or "")
    preset = Preset(
        story=story,
        without_system=without,
        chat_start=_plain(macros, chat_start + "\n") if chat_start else "",
        alignment=raw("user_alignment_message"),
        system=Turn(system.opens, system.opens, system.opens, system.closes),
        user=turn("input", NAME, named=names),
        answer=Turn(answer.first, answer.opens, asked, answer.closes),
        wrap=wrap,
        names=names,
        stop_lines=_stop_lines(text(raw("stop_sequence"), CHAR)),
    )
    lost = [*story_lost, *_lost(facts, context or {}, macros)]
    if preset.last_differs:
        lost.append(
            "the answer that is asked for is opened differently from those of the history "
            "(last_output_sequence, wrap): in training, the last answer is opened that way"
        )
    return preset, tuple(lost)


def _stop_lines(text: str) -> tuple[str, ...]:
    """The lines of a stop sequence without names, each once."""
    lines = text.replace(EOS, "").split("\n")
    named = {USER, CHAR, NAME}
    return tuple(dict.fromkeys(line for line in lines if line.strip() and not named & set(line)))


def _plain(macros: Macros, text: str) -> str:
    return unspell_tokens(trimmed(macros.expand(text)).replace("\r", ""))


def _asks(facts: Mapping[str, Any], sequence: str, names: bool) -> str:
    """The last line of a prompt, without the newline that leads it with ``wrap``."""
    separator = "\n" if facts.get("wrap") else ""
    usual, last = str(facts.get("output_sequence") or ""), facts.get("last_output_sequence")
    filler = ""
    if names and last and usual[-1:].isspace() and not str(last)[-1:].isspace():
        filler = usual[-1]
    text = separator + sequence + (separator + filler + f"{NAME}:" if names else "")
    if separator:
        text = text.rstrip()
    text += "" if names else separator
    return text.removeprefix(separator)


def _story(
    facts: Mapping[str, Any], context: Mapping[str, Any] | None, macros: Macros
) -> tuple[Story | None, str, list[str]]:
    """The story string with a system prompt and without, and what is not kept of it."""
    wrap = bool(facts.get("wrap"))
    opens, closes = (
        str(facts.get(f"story_string_{end}") or "").replace("{{name}}", "System")
        for end in ("prefix", "suffix")
    )
    template = str((context or {}).get("story_string") or DEFAULT_STORY)
    separator = "\n" if wrap else ""
    before, behind = (
        str(facts.get(f"system_sequence_{end}") or "").replace("{{name}}", "System")
        for end in ("prefix", "suffix")
    )
    around = before or behind or opens or closes
    if context is None and facts.get("system_sequence") and not around:
        return None, "", [_NO_CONTEXT]
    sent = (before + separator if before else "") + SYSTEM + (separator + behind if behind else "")

    def filled(system: str) -> str:
        values = {"system": system, "user": USER, "char": CHAR, "trim": "{{trim}}"}
        text = fill_story(template, values, lambda name: f"{{{{{name}}}}}")
        return macros.expand(text).replace("\r", "")

    def finished(text: str) -> str:
        if not text.endswith(SYSTEM) and not text.endswith("\n") and wrap and not closes and text:
            text += "\n"
        if not text:
            return ""
        prefix = _plain(macros, opens) + separator if opens else ""
        return unspell_tokens(prefix + text + _plain(macros, closes))

    text = filled(sent)
    without = finished(trimmed(filled("")).lstrip("\n"))
    starts, ends = is_trimmed(text)
    text = trimmed(text)
    starts = starts or text.lstrip("\n").startswith(SYSTEM)
    ends_line = wrap and not closes and text.endswith(SYSTEM)
    text = finished(text.lstrip("\n"))
    if text.count(SYSTEM) != 1:
        return None, without, ["the context has no {{system}}: a system prompt is refused"]
    start, _, end = text.partition(SYSTEM)
    empty = bool(before or behind)
    return Story(start, end, starts, ends, ends_line, empty), without, []


def _lost(facts: Mapping[str, Any], context: Mapping[str, Any], macros: Macros) -> Iterator[str]:
    for macro in macros.left_out:
        yield f"the macro {macro} has no fixed value: it is left out"
    if facts.get("system_prompt"):
        yield "the preset's own system prompt: write it as a system message"
    if context.get("single_line"):
        yield "single_line: SillyTavern stops an answer at its first newline"
    if int(context.get("story_string_position") or 0) == 1:
        yield "story_string_position: the story string is written before the chat, not inside it"


def preset_renderer(preset: Preset) -> Renderer:
    """A preset as a function from messages to text, or to None where it leaves words out."""

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        user = next((m.name for m in messages if m.role == "user" and m.name), None) or "User"
        named = [m.name for m in messages if m.role == "assistant" and m.name]
        char = named[-1] if named else "Assistant"
        parts = [preset.without_system]
        chat = list(messages)
        if chat and chat[0].role == "system":
            system = chat.pop(0).content
            if preset.story is None:
                return None
            if system or preset.story.writes_empty:
                parts = [preset.story.write(system)]
        parts.append(preset.chat_start)
        if preset.alignment and not (chat and chat[0].role == "user"):
            parts.append(_named(preset.user.first, user) + preset.alignment + preset.user.closes)
        closed: str | None = None
        for index, message in enumerate(chat):
            is_last = not any(later.role == "user" for later in chat[index + 1 :])
            if message.role == "system":
                turn, opens, speaker = preset.system, preset.system.opens, "System"
            elif message.role == "user":
                turn, speaker = preset.user, message.name or user
                opens = turn.last if is_last else turn.opens if index else turn.first
            else:
                turn, speaker = preset.answer, message.name or char
                opens = turn.opens if index else turn.first
                if index == len(chat) - 1 and not add_generation_prompt:
                    opens = preset.lead(closed) + "".join(preset.asks)
            ends = index == len(chat) - 1 and not add_generation_prompt
            closes = EOS if ends and turn is preset.answer and not preset.mark else turn.closes
            parts += [_named(opens, speaker), message.content, _named(closes, speaker)]
            closed = turn.closes
        if add_generation_prompt:
            parts.append(_named(preset.lead(closed) + preset.answer.last, char))
        return "".join(parts).replace(USER, user).replace(CHAR, char).replace("\r", "")

    return render


def _named(text: str, speaker: str) -> str:
    return text.replace(NAME, speaker)
