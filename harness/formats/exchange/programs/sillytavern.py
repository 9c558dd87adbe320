"""SillyTavern's instruct presets, with their context presets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.conversation import Message
from harness.errors import HarnessError
from harness.formats.exchange.programs.special_tokens import (
    front_end_turns,
    spell_tokens,
    unspell_tokens,
)
from harness.formats.turns import Renderer
from harness.records import Format


def write_sillytavern(chat_format: Format) -> str:
    """A master export: an instruct and a context preset."""
    turns = front_end_turns(chat_format)
    closes = (turns.system_close or "").removesuffix(turns.begin)
    if turns.system_close is not None and not turns.system_close.endswith(turns.begin):
        raise HarnessError("the first question is written differently behind a system prompt")
    story = (
        spell_tokens(turns.system_open or "")
        + "{{#if system}}{{system}}{{/if}}"
        + spell_tokens(closes)
    )
    sequence = spell_tokens(turns.assistant_open + turns.answer_glue)
    preset = {
        "instruct": {
            "name": chat_format.id,
            "input_sequence": spell_tokens(turns.user_open),
            "first_input_sequence": spell_tokens(turns.begin)
            if turns.begin != turns.user_open
            else "",
            "input_suffix": spell_tokens(turns.user_close),
            "output_sequence": sequence,
            "output_suffix": spell_tokens(turns.stop + turns.answer_close),
            "last_output_sequence": spell_tokens(turns.assistant_open) if turns.answer_glue else "",
            "system_sequence": "",
            "system_suffix": "",
            "stop_sequence": "\n".join(stop for stop in chat_format.stops if "\n" not in stop),
            "wrap": False,
            "macro": True,
            "names_behavior": "none",
            "system_same_as_user": True,
        },
        "context": {"name": chat_format.id, "story_string": story},
    }
    return json.dumps(preset, indent=4, ensure_ascii=False) + "\n"


def read_sillytavern(text: str) -> Renderer:
    """Read a master export that was written here."""
    facts = json.loads(text)
    inner = preset_renderer(facts["instruct"], facts["context"])
    return lambda messages, add_generation_prompt: (
        inner(messages, True) if add_generation_prompt else None
    )  # a chat always waits for an answer


def preset_renderer(preset: Mapping[str, Any], story: Mapping[str, Any]) -> Renderer:
    """A preset as a function from messages to text.

    The system prompt is in the story string, or in the preset's own block.
    """
    separator = "\n" if preset.get("wrap") else ""

    def sequence(name: str) -> str:
        return unspell_tokens(str(preset.get(name) or ""))

    def turn(role: str, words: str, first: bool = False) -> str:
        opens = (first and sequence(f"first_{role}_sequence")) or sequence(f"{role}_sequence")
        closes = sequence(f"{role}_suffix") or separator
        return (opens + separator if opens else "") + words + closes

    def system(words: str) -> str:
        if story.get("story_string"):
            text = _story(str(story["story_string"]), words)
            opens, closes = sequence("story_string_prefix"), sequence("story_string_suffix")
            return (
                (opens + separator if opens else "") + text + (separator + closes if closes else "")
            )
        for opens, closes in (
            ("story_string_prefix", "story_string_suffix"),
            ("system_sequence_prefix", "system_sequence_suffix"),
        ):
            if sequence(opens) or sequence(closes):
                return sequence(opens) + separator + words + separator + sequence(closes)
        if sequence("system_sequence"):
            return turn("system", words)
        return words + "\n"

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        parts: list[str] = []
        first = True
        for message in messages:
            if message.role == "system":
                if parts:
                    return None
                parts.append(system(message.content))
            elif message.role == "user":
                parts.append(turn("input", message.content, first))
                first = False
            else:
                parts.append(turn("output", message.content))
        opens = sequence("output_sequence")
        return "".join(parts) + (opens + separator if add_generation_prompt and opens else "")

    return render


def _story(story: str, words: str) -> str:
    """SillyTavern's story string with a system prompt alone.

    Conditional parts for anything else are removed, and {{trim}} removes newlines around it.
    """
    story = re.sub(
        r"\{\{#if system\}\}(.*?)\{\{/if\}\}", lambda match: match[1], story, flags=re.DOTALL
    )
    story = re.sub(r"\{\{#if [^}]*\}\}.*?\{\{/if\}\}", "", story, flags=re.DOTALL)
    story = re.sub(r"(?:\r?\n)*\{\{trim\}\}(?:\r?\n)*", "", story)
    before, system, after = story.partition("{{system}}")
    if not system:
        return words + "\n"
    return unspell_tokens(before) + words + unspell_tokens(re.sub(r"\{\{[^{}]*\}\}", "", after))
