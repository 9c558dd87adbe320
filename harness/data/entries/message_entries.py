"""Read one entry of a row's messages, in the spelling of any schema."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from harness.conversation import ROLES, Message, ToolCall
from harness.data.entries.answer_text import split_calls, split_thought
from harness.data.entries.content_parts import Parts, parse_parts
from harness.data.entries.row_notes import RowNotes
from harness.data.entries.speakers import SPEAKERS, Speaker
from harness.data.entries.tool_calls import identifier, json_text, parse_calls, without_null_keys
from harness.data.refusals import RefusedRow, bad_value
from harness.files import half_character

THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
_TRAIN = ("train", "training", "loss")
_WEIGHTS = ("weight", "loss_weight")
_TEXTS = ("content", "value", "refusal")
_CALLS = ("tool_calls", "function_call")
#: Harmony's channels. A recipient in _EVERYBODY is not a tool.
CHANNELS = ("analysis", "commentary", "final")
_EVERYBODY = ("", "all", "user", "assistant")
_KEYS = (
    *("role", "from", *_TEXTS, "name", *_TRAIN, *_WEIGHTS, *THOUGHTS),
    *(*_CALLS, "tool_call_id", "tools", "channel", "recipient"),
)
#: Keys that can be ignored without losing any of the conversation.
_SILENT = {"content_type"}
THINK_TAGS = "<think> … </think> in an answer's text is its thought"
CALL_TAGS = "<tool_call> … </tool_call> in an answer's text is a call"


class Entry(NamedTuple):
    """The messages of one entry: one, or the results that Anthropic puts into a question.

    ``tagged`` means that its calls were tags in the text. ``joins`` means that it is a part of an
    answer that continues in the next entry (a thought) or began in the previous one (calls).
    """

    messages: tuple[Message, ...]
    place: str
    tagged: bool = False
    joins: str = ""


def parse_entry(value: Any, place: str, notes: RowNotes) -> Entry:
    """Read one entry. Raises RefusedRow naming the place and the key."""
    if not isinstance(value, dict):
        raise bad_value(place, "expected an object with role and content")
    entry = without_null_keys(value)
    _check_keys(entry, place, notes)
    speaker = _speaker(entry, place)
    role = speaker.role
    content = _content(entry, role, place)
    blank = Message(role, "", _name(entry, place), _weight(entry, role, place))
    if role != "assistant":
        return Entry(_context(entry, content, blank, place), place)
    answer = replace(
        blank,
        content="".join(content.texts),
        reasoning=_own_thought(entry, content, place),
        tool_calls=_own_calls(entry, content, place, notes),
    )
    if (part := _part(entry, speaker, answer, place, notes)) is not None:
        return part
    if answer.reasoning is None and not _has(entry, THOUGHTS):
        text, thought, _ = split_thought(answer.content)
        notes.readings |= {THINK_TAGS} if text != answer.content else set()
        answer = replace(answer, content=text, reasoning=thought)
    text, _, objects = split_calls(answer.content)
    tagged = bool(objects) and not answer.tool_calls and not _has(entry, _CALLS)
    if tagged:
        notes.readings.add(CALL_TAGS)
        calls = parse_calls(list(objects), place, notes)
        answer = replace(answer, content=text, tool_calls=calls)
    if not _has(entry, _TEXTS) and answer.reasoning is None and not answer.tool_calls:
        raise bad_value(place, "content: no text, no thought and no call")
    return Entry((answer,), place, tagged)


def _check_keys(entry: dict[str, Any], place: str, notes: RowNotes) -> None:
    """Refuse a key that nearly matches one of ours, and ignore others."""
    if "train_detail" in entry:
        raise RefusedRow(
            "unknown key",
            "train_detail: parts of a message cannot be left untrained",
            where=place,
            hint='"train": false leaves a whole message untrained',
        )
    notes.ignore(entry.keys() - _SILENT, _KEYS, place, "messages[].")


def _speaker(entry: dict[str, Any], place: str) -> Speaker:
    key = "role" if "role" in entry else "from"
    speaker = SPEAKERS.get(entry[key]) if isinstance(entry.get(key), str) else None
    if speaker is None:
        what = "role" if key == "role" or key not in entry else "speaker"
        raise RefusedRow(
            "unknown role",
            f"unknown {what} {entry.get(key)!r}",
            where=place,
            hint=f"one of {', '.join(ROLES)}, or another program's name for one of these",
        )
    return speaker


def _name(entry: dict[str, Any], place: str) -> str | None:
    name = entry.get("name")
    if name is not None and (not isinstance(name, str) or not name.strip() or "\n" in name):
        raise bad_value(place, "name: expected a text on one line")
    if half := half_character(name or ""):
        raise bad_value(place, f"name: unpaired surrogate ({half})")
    return name


def _content(entry: dict[str, Any], role: str, place: str) -> Parts:
    """The content as parts; plain text is one part. A tool result may be any JSON value."""
    value = next((entry[key] for key in _TEXTS if key in entry), None)
    if isinstance(value, list) and (role != "tool" or _are_parts(value)):
        parts = parse_parts(value, place)
    elif isinstance(value, str):
        parts = Parts([value])
    elif role == "tool" and value is not None:
        parts = Parts([json_text(value)])
    elif value is None and role == "assistant":
        parts = Parts()
    else:
        found = "null" if value is None else type(value).__name__
        raise bad_value(place, f"content: expected a text, not {found}")
    for text in (*parts.texts, *parts.thoughts):
        if half := half_character(text):
            raise bad_value(place, f"content: unpaired surrogate ({half}); the text was cut there")
    return parts


def _are_parts(value: list[Any]) -> bool:
    return all(isinstance(part, dict) and "type" in part for part in value)


def _context(
    entry: dict[str, Any], content: Parts, blank: Message, place: str
) -> tuple[Message, ...]:
    """The messages of an entry that is not the assistant's."""
    for key in (*THOUGHTS, *_CALLS):
        if entry.get(key):
            raise bad_value(place, f"{key}: only an assistant has it, not the {blank.role}")
    if content.thoughts or content.calls:
        raise bad_value(place, f"content: only an assistant thinks or calls, not the {blank.role}")
    results = [_result(part, place) for part in content.results]
    call_id = identifier(entry.get("tool_call_id"), f"{place}: tool_call_id")
    if blank.role != "tool":
        if call_id is not None:
            raise bad_value(place, "tool_call_id: only a tool's message answers a call")
        words = (
            [replace(blank, content="".join(content.texts))] if content.texts or not results else []
        )
        return (*results, *words)
    name = blank.name.removeprefix("functions.") if blank.name else None
    return (
        replace(blank, content="".join(content.texts), name=name or None, tool_call_id=call_id),
    )


def _result(part: dict[str, Any], place: str) -> Message:
    """The result of a call that Anthropic's API has among the parts of a question."""
    value = part.get("content", "")
    if isinstance(value, list):
        value = "".join(parse_parts(value, place).texts)
    text = value if isinstance(value, str) else json_text(value)
    return Message("tool", text, tool_call_id=identifier(part.get("tool_use_id"), place))


def _own_thought(entry: dict[str, Any], content: Parts, place: str) -> str | None:
    """The thought in a key or in the parts of the entry; an empty thought counts as none."""
    given = {key: entry[key] for key in THOUGHTS if entry.get(key)}
    for key, value in given.items():
        if not isinstance(value, str):
            raise bad_value(place, f"{key}: expected a text")
        if half := half_character(value):
            raise bad_value(place, f"{key}: unpaired surrogate ({half})")
    thoughts = dict.fromkeys((*given.values(), *filter(None, ["\n".join(content.thoughts)])))
    if len(thoughts) > 1:
        raise bad_value(place, f"two thoughts: {', '.join(given)}", "keep one of them")
    return next(iter(thoughts), None)


def _own_calls(
    entry: dict[str, Any], content: Parts, place: str, notes: RowNotes
) -> tuple[ToolCall, ...]:
    calls: tuple[ToolCall, ...] = ()
    for key, value in (*((key, entry.get(key)) for key in _CALLS), ("content", content.calls)):
        if value:
            calls += parse_calls(value, f"{place}: {key}", notes)
    return calls


def _part(
    entry: dict[str, Any], speaker: Speaker, answer: Message, place: str, notes: RowNotes
) -> Entry | None:
    """A partial answer: ShareGPT's function_call, Harmony's channels. None for a whole answer."""
    channel, recipient = entry.get("channel"), str(entry.get("recipient") or "")
    if channel not in (None, *CHANNELS):
        raise bad_value(place, f"unknown channel {channel!r}", f"one of {', '.join(CHANNELS)}")
    text, calls, name = answer.content, answer.tool_calls, recipient.removeprefix("functions.")
    if calls or (name in _EVERYBODY and channel != "analysis" and speaker.holds == "words"):
        preamble = channel == "commentary" and not calls
        return Entry((answer,), place, joins="next") if preamble else None
    if name not in _EVERYBODY:
        calls = parse_calls({"name": name, "arguments": text}, f"{place}: content", notes)
        return Entry((replace(answer, content="", tool_calls=calls),), place, joins="last")
    if speaker.holds == "calls":
        text, thought, _ = split_thought(text)
        calls = parse_calls(list(split_calls(text).calls) or text, f"{place}: the calls", notes)
        thought = answer.reasoning or thought
        answer = replace(answer, content="", reasoning=thought, tool_calls=calls)
        return Entry((answer,), place, joins="last")
    thought = "\n".join(filter(None, (answer.reasoning, text)))
    return Entry((replace(answer, content="", reasoning=thought or None),), place, joins="next")


def _has(entry: dict[str, Any], keys: tuple[str, ...]) -> bool:
    return any(key in entry for key in keys)


def _weight(entry: dict[str, Any], role: str, place: str) -> float:
    """``train`` and ``weight`` as one number. Only an assistant's message can be trained."""
    key = next((key for key in _TRAIN if key in entry), "train")
    weighs = next((name for name in _WEIGHTS if name in entry), "weight")
    train, weight = entry.get(key, True), entry.get(weighs, 1.0)
    if not isinstance(train, bool) and not (key == "loss" and train in (0, 1)):
        raise bad_value(place, f"{key}: expected true or false")
    if (
        isinstance(weight, bool)
        or not isinstance(weight, int | float)
        or not 0 <= weight < math.inf
    ):
        raise bad_value(place, f"{weighs}: expected a number from 0")
    if role != "assistant":
        if (key in entry and train) or (weighs in entry and weight > 0):
            raise RefusedRow(
                "cannot be trained",
                f"only an assistant's message can be trained, not the {role}'s",
                where=place,
            )
        return 1.0
    return float(weight) if train else 0.0
