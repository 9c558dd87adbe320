"""SillyTavern's macros: what ``{{user}}``, ``{{char}}``, ``{{newline}}`` … become in a preset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Placeholders for the names of the user, the character and a message's speaker, and for the system
#: prompt: private-use characters.
USER, CHAR, NAME, SYSTEM = "\ue0b2", "\ue0b3", "\ue0b4", "\ue0b5"
_TRIM = "\ue0b6"
_TAGS = (("user", USER), ("bot", CHAR), ("char", CHAR), ("charifnotgroup", CHAR), ("group", CHAR))
_MACRO = re.compile(r"\{\{([^{}]*)\}\}")
#: What a chat without a character card has nothing for.
_EMPTY = (
    *("description", "personality", "scenario", "persona", "mesexamples", "mesexamplesraw"),
    *("charprompt", "charjailbreak", "charversion", "char_version", "input", "noop", "wibefore"),
    *("wiafter", "lorebefore", "loreafter", "anchorbefore", "anchorafter"),
)
_FIXED = {
    **dict.fromkeys(_EMPTY, ""),
    **dict.fromkeys(("char", "group", "charifnotgroup"), CHAR),
    **{"user": USER, "newline": "\n", "trim": _TRIM},
}
_CONTEXT = {
    "chatstart": "chat_start",
    "exampleseparator": "example_separator",
    "chatseparator": "example_separator",
}
_OWN = {
    "instructSystemPromptPrefix": "system_sequence_prefix",
    "instructSystemPromptSuffix": "system_sequence_suffix",
    "instructStoryStringPrefix": "story_string_prefix",
    "instructStoryStringSuffix": "story_string_suffix",
    "instructInput": "input_sequence",
    "instructUserPrefix": "input_sequence",
    "instructUserSuffix": "input_suffix",
    "instructOutput": "output_sequence",
    "instructAssistantPrefix": "output_sequence",
    "instructSeparator": "output_suffix",
    "instructAssistantSuffix": "output_suffix",
    "instructSystemPrefix": "system_sequence",
    "instructSystemSuffix": "system_suffix",
    "instructStop": "stop_sequence",
    "instructUserFiller": "user_alignment_message",
}
_KEY_OF = {name.lower(): key for name, key in _OWN.items()}
#: Macros whose value changes from call to call, or that only a running SillyTavern knows.
_CHANGING = re.compile(
    r"random|pick|roll|banned|time|date|weekday|iso(?:time|date)|idle_duration|model|original|"
    r"max\w*|last\w+|first\w+|current\w+|\w*system\w*|setvar|getvar|addvar|incvar|decvar|\w+globalvar",
    re.IGNORECASE,
)


class Macros:
    """The macros of one preset and its context. ``left_out`` names those without a value here."""

    def __init__(self, preset: Mapping[str, Any], context: Mapping[str, Any]) -> None:
        self._preset = preset
        self._context = context
        self.left_out: dict[str, None] = {}

    def expand(self, text: str, *, speaker: str = "", again: bool = True) -> str:
        """The text with its macros written out: names as the characters above.

        ``speaker`` replaces {{name}}. A macro that SillyTavern does not know stays as it is.
        """
        for tag, mark in _TAGS:
            text = re.sub(f"<{tag}>", mark, text, flags=re.IGNORECASE)
        text = _MACRO.sub(lambda macro: self._value(macro, speaker, again=again), text)
        return text

    def _value(self, macro: re.Match[str], speaker: str, *, again: bool) -> str:
        name = macro[1].strip().lower()
        fixed = {**_FIXED, **({"name": speaker} if speaker else {})}
        if name in fixed:
            return fixed[name]
        if name.startswith("//"):
            return ""
        if name in _CONTEXT:
            return str(self._context.get(_CONTEXT[name]) or "")
        if name in _KEY_OF and again:
            own = str(self._preset.get(_KEY_OF[name]) or "")
            return self.expand(own, speaker=speaker, again=False)
        if not _CHANGING.match(name):
            return macro[0]
        self.left_out[macro[0]] = None
        return ""


def trimmed(text: str) -> str:
    """The text without {{trim}} and the newlines around it."""
    return re.sub(f"\n*{_TRIM}\n*", "", text)


def is_trimmed(text: str) -> tuple[bool, bool]:
    """Whether {{trim}} takes the newlines at the start and at the end of the system prompt."""
    return (
        bool(re.search(f"{_TRIM}\n*{SYSTEM}", text)),
        bool(re.search(f"{SYSTEM}\n*{_TRIM}", text)),
    )
