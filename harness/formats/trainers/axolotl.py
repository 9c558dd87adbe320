"""axolotl's strategy ``chat_template``: which tokens its labels keep.

By documentation and behaviour of axolotl 0.19 (docs.axolotl.ai, "Conversation"): each turn of
``roles_to_train`` is located by writing the conversation again with a placeholder as that turn, and
all that changes is trained: the words, and with them thought and calls. Then the EOS, or a token of
``eot_tokens``, is trained where it comes within three tokens behind the turn. Any other end of turn
is not.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.formats.trainers.trainer_mask import (
    ChatTemplate,
    Messages,
    RefusedByTemplateError,
    Row,
    Token,
    TrainerMask,
    cut,
    of_tokens,
    tools_of,
)
from harness.formats.turns import common_length

#: Two placeholders that share no first and no last character, so that one of them always differs
#: from the words at either edge.
_PLACEHOLDERS = ("((placeholder))", "qqplaceholderqq")
#: How many tokens may come between a turn and its end.
_NEAR = 3
_ROLES = {
    "human": "user",
    "user": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "system": "system",
    "tool": "tool",
}
_THOUGHTS = (
    ("<think>", "</think>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
_SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")


@dataclass(frozen=True)
class AxolotlSettings:
    """The settings of a configuration and its data set that decide what is trained."""

    roles_to_train: tuple[str, ...] = ("assistant",)
    train_on_inputs: bool = False
    train_on_eos: str = "turn"
    train_on_eot: str | None = None
    eot_tokens: tuple[str, ...] | None = None
    sequence_len: int | None = None
    excess_length_strategy: str = "drop"
    field_messages: str = "messages"
    field_system: str = "system"
    field_tools: str = "tools"
    message_property_mappings: Mapping[str, str] = field(default_factory=dict)
    message_field_training: str | None = None
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    split_thinking: bool = False
    template_thinking_key: str = "reasoning_content"
    field_thinking: str = "reasoning_content"
    drop_system_message: bool = False


def axolotl_mask(
    template: ChatTemplate, row: Row, settings: AxolotlSettings | None = None
) -> TrainerMask:
    """What axolotl trains of a row. Nothing is raised: a refusal is the mask's error."""
    settings = settings or AxolotlSettings()
    try:
        turns, trained_by_key = _turns(template, row, settings)
        tools = tools_of(row, settings.field_tools)
        mask = _located(template, turns, trained_by_key, tools, settings)
    except (RefusedByTemplateError, ValueError, LookupError) as refusal:
        return TrainerMask("", error=str(refusal))
    most = settings.sequence_len
    if most is None or mask.tokens <= most:
        return mask
    if settings.excess_length_strategy == "truncate":
        return cut(mask, template.tokenise(mask.text), most, end=False)
    return replace(mask, left_out=f"{mask.tokens} tokens, over sequence_len = {most}")


def _located(
    template: ChatTemplate,
    turns: Messages,
    trained_by_key: Sequence[bool | None],
    tools: Any,
    settings: AxolotlSettings,
) -> TrainerMask:
    text = template.apply(turns, tools)
    tokens = template.tokenise(text)
    eos, eots = _end_ids(template, settings)
    on_eos, on_eot = settings.train_on_eos, settings.train_on_eot or settings.train_on_eos
    names = _role_names(settings)
    roles = {names.get(role, role) for role in settings.roles_to_train}
    trained: set[int] = set()
    last: dict[str, int] = {}
    for index, turn in enumerate(turns):
        by_key = trained_by_key[index]
        wanted = settings.train_on_inputs or turn.get("role") in roles
        wanted = wanted if by_key is None else by_key
        if not wanted and "all" not in (on_eos, on_eot):
            continue
        found = _find(template, turns, index, tools, text, tokens)
        if found is None:
            continue
        if wanted:
            trained.update(range(*found))
        for kind, ids, rule in (("eot", eots, on_eot), ("eos", eos, on_eos)):
            at = next((at for at in range(found[1], len(tokens)) if tokens[at].id in ids), None)
            if at is not None and at - found[1] <= _NEAR:
                last[kind] = at
                if rule == "all" or (rule == "turn" and wanted):
                    trained.add(at)
    for kind, rule in (("eot", on_eot), ("eos", on_eos)):
        if rule == "last" and kind in last:
            trained.add(last[kind])
    return of_tokens(text, tokens, sorted(trained), notes=_notes(template, settings))


def _find(
    template: ChatTemplate,
    turns: Messages,
    index: int,
    tools: Any,
    text: str,
    tokens: Sequence[Token],
) -> tuple[int, int] | None:
    """The tokens of a turn: what changes when its words are replaced. None where nothing does."""
    starts, ends = [], []
    for placeholder in _PLACEHOLDERS:
        stand_in = {"role": turns[index].get("role"), "content": placeholder}
        other = template.apply([*turns[:index], stand_in, *turns[index + 1 :]], tools)
        start, end = _changed(text, other)
        starts.append(start)
        ends.append(end)
    start, end = min(starts), max(ends)
    if end <= start:
        return None
    first = bisect_right([token.end for token in tokens], start)
    past = bisect_left([token.start for token in tokens], end)
    return (first, past) if first < past else None


def _changed(text: str, other: str) -> tuple[int, int]:
    """The characters of ``text`` between what both begin with and what both end with."""
    start = common_length(text, other)
    return start, len(text) - common_length(text[start:][::-1], other[start:][::-1])


def _end_ids(template: ChatTemplate, settings: AxolotlSettings) -> tuple[set[int], set[int]]:
    """The ids of EOS, and those of the end-of-turn tokens that the template holds."""
    eos_id = template.one_id(template.eos_token)
    eos = set() if eos_id is None else {eos_id}
    if settings.eot_tokens is None:
        return eos, eos
    ids: set[int] = set()
    for token in settings.eot_tokens:
        if token in template.source or token == template.eos_token:
            found = template.one_id(token)
            if found is None:
                raise ValueError(f"the EOT token {token!r} is several tokens in this tokenizer")
            ids.add(found)
    return eos, ids


def _notes(template: ChatTemplate, settings: AxolotlSettings) -> tuple[str, ...]:
    ends = (template.eos_token,) if settings.eot_tokens is None else settings.eot_tokens
    absent = [end for end in ends if end and end not in template.source]
    if settings.eot_tokens is None and "eos_token" in template.source:
        absent = []
    return tuple(f"{end!r} is not in the template: it ends no turn" for end in absent)


def _role_names(settings: AxolotlSettings) -> dict[str, str]:
    """Each name of a role in the data → the role."""
    if settings.roles:
        return {source: role for role, sources in settings.roles.items() for source in sources}
    return _ROLES


def _turns(
    template: ChatTemplate, row: Row, settings: AxolotlSettings
) -> tuple[list[dict[str, Any]], list[bool | None]]:
    """The messages as the template gets them, and what ``message_field_training`` says of each."""
    messages = row.get(settings.field_messages)
    if isinstance(messages, str):
        messages = json.loads(messages)
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"no list of messages under {settings.field_messages!r} (field_messages)")
    turns = [_turn(template, message, settings) for message in messages]
    marks = [message.get(settings.message_field_training) for message in messages]
    if turns[0].get("role") != "system" and row.get(settings.field_system):
        turns.insert(0, {"role": "system", "content": row[settings.field_system]})
        marks.insert(0, None)
    if settings.drop_system_message and turns[0].get("role") == "system":
        turns, marks = turns[1:], marks[1:]
    return turns, [None if mark is None else bool(mark) for mark in marks]


def _turn(
    template: ChatTemplate, message: Mapping[str, Any], settings: AxolotlSettings
) -> dict[str, Any]:
    mapping = dict(settings.message_property_mappings) or {"role": "role", "content": "content"}
    mapping.setdefault(settings.template_thinking_key, settings.field_thinking)
    turn = {key: message[name] for key, name in mapping.items() if message.get(name) is not None}
    if "role" in turn:
        turn["role"] = _role_names(settings).get(turn["role"], turn["role"])
    if settings.split_thinking and turn.get("role") == "assistant":
        _split(turn, settings.template_thinking_key)
    for key, value in message.items():  # what the template reads of a message by name
        if key not in mapping.values() and key in template.source and value is not None:
            turn.setdefault(key, value)
    return turn


def _split(turn: dict[str, Any], key: str) -> None:
    """Take a thought between known tags out of the words."""
    content = turn.get("content") or ""
    for begin, end in _THOUGHTS:
        if begin in content and end in content:
            thought, _, words = content.partition(begin)[2].partition(end)
            turn[key], words = thought.strip(), words.lstrip()
            if _SOLUTION[0] in words and _SOLUTION[1] in words:
                words = words.partition(_SOLUTION[0])[2].partition(_SOLUTION[1])[0].strip()
            turn["content"] = words
            return
