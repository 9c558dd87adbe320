"""SillyTavern's instruct presets, with their context presets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError
from harness.formats.exchange.programs.preset import preset_renderer, read_preset
from harness.formats.exchange.programs.preset_template import Written, written_preset
from harness.formats.exchange.programs.special_tokens import (
    front_end_turns,
    spell_tokens,
)
from harness.formats.turns import BOS, Renderer
from harness.records import Format


def write_sillytavern(chat_format: Format) -> str:
    """A master export: an instruct and a context preset.

    What comes before the first question without a system prompt is in the story string, since
    SillyTavern writes a lone question as the last one and not as the first. What comes before all
    questions but the first is behind the answers.
    """
    turns = front_end_turns(chat_format)
    between = turns.user_open[: len(turns.user_open) - len(turns.user_open.lstrip(BOS + " \n"))]
    if turns.begin.endswith(turns.user_open):
        between = ""
    header = turns.user_open[len(between) :]
    closes = turns.system_close or ""
    if not turns.begin.endswith(header) or (turns.system_close and not closes.endswith(header)):
        raise HarnessError("the first question is written differently from later ones")
    opening = turns.begin[: len(turns.begin) - len(header)]
    closes = closes[: len(closes) - len(header)] if turns.system_close else ""
    story = (
        "{{#if system}}"
        + spell_tokens(turns.system_open or "")
        + "{{system}}"
        + spell_tokens(closes)
        + ("{{else}}" + spell_tokens(opening) if opening else "")
        + "{{/if}}"
    )
    user_close, asks = turns.user_close, turns.assistant_open
    if turns.answer_glue and not asks:  # an empty last_output_sequence would be the usual one
        user_close, asks = "", turns.user_close
    preset = {
        "instruct": {
            "name": chat_format.id,
            "input_sequence": spell_tokens(header),
            "input_suffix": spell_tokens(user_close),
            "output_sequence": spell_tokens(asks + turns.answer_glue),
            "output_suffix": spell_tokens(turns.stop + turns.answer_close + between),
            "last_output_sequence": spell_tokens(asks) if turns.answer_glue else "",
            "system_sequence": "",
            "system_suffix": "",
            "stop_sequence": "\n".join(stop for stop in chat_format.stops if "\n" not in stop),
            "wrap": False,
            "macro": False,
            "names_behavior": "none",
            "system_same_as_user": True,
        },
        "context": {"name": chat_format.id, "story_string": story},
    }
    return json.dumps(preset, indent=4, ensure_ascii=False) + "\n"


def read_sillytavern(text: str) -> Renderer:
    """Read a master export that was written here."""
    facts = json.loads(text)
    inner = preset_renderer(read_preset(facts["instruct"], facts["context"])[0])
    return lambda messages, add_generation_prompt: (
        inner(messages, True) if add_generation_prompt else None
    )  # a chat always waits for an answer


@dataclass(frozen=True, slots=True)
class PresetFile:
    """A preset that was read: how it writes a conversation, and our template of it."""

    render: Renderer
    written: Written
    lost: tuple[str, ...]


def read_preset_file(facts: Any, context: Any, where: str) -> PresetFile:
    """Read an instruct preset with its context preset, or a master export that holds both.

    ``context`` is None where none is given. Raises HarnessError for what is neither, and names what
    it is.
    """
    lost: list[str] = []
    if isinstance(facts, dict) and isinstance(facts.get("instruct"), dict):
        context = facts.get("context") if context is None else context
        if isinstance(facts.get("sysprompt"), dict) and facts["sysprompt"].get("content"):
            lost.append("the export's system prompt: write it as a system message")
        if isinstance(facts.get("reasoning"), dict) and facts["reasoning"].get("prefix"):
            lost.append("the export's marks of a thought")
        facts = facts["instruct"]
    if not isinstance(facts, dict) or "input_sequence" not in facts:
        raise HarnessError(_what_it_is(facts), where=where, hint="a preset has an input_sequence")
    if context is not None and "story_string" not in context:
        raise HarnessError(
            "no SillyTavern context preset: it has no story_string", where=f"{where} --context"
        )
    try:
        preset, more = read_preset(facts, context)
    except HarnessError as error:
        raise HarnessError(error.message, where=where) from None
    return PresetFile(preset_renderer(preset), written_preset(preset), (*lost, *more))


def _what_it_is(facts: Any) -> str:
    if isinstance(facts, dict) and "story_string" in facts:
        return "a SillyTavern context preset: import the instruct preset, and this by --context"
    if isinstance(facts, dict) and {"name", "content"} <= set(facts):
        return "a SillyTavern system prompt: write it as a system message"
    return "neither a tokenizer_config.json nor a SillyTavern instruct preset"
