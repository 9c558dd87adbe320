"""Read content that is a list of parts, as OpenAI, Anthropic and Mistral write it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harness.data.refusals import RefusedRow, bad_value

#: The types of text parts; LLaMA-Factory has the text under ``value``.
_TEXTS = ("text", "input_text", "output_text", "refusal")
_WORDS = ("text", "refusal", "value")
_THOUGHTS = ("thinking", "reasoning")
#: The type of a part that is not text, and what a refusal calls it.
_MEDIA = {
    "image": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "input_video": "video",
    "file": "file",
    "input_file": "file",
    "document": "file",
}
_SHAPE = '[{"type": "text", "text": "…"}, …]'


@dataclass(slots=True)
class Parts:
    """The parts of a content by kind, in order."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)


def parse_parts(value: list[Any], place: str) -> Parts:
    """The texts, thoughts, calls and results of a content.

    Raises RefusedRow for images, audio, video and files, with their number, and for a part of an
    unknown type.
    """
    found, media = Parts(), Counter[str]()
    for index, part in enumerate(value):
        where = f"{place}: content[{index}]"
        if isinstance(part, str):
            found.texts.append(part)
            continue
        if not isinstance(part, dict):
            raise bad_value(where, "expected an object with type and text", _SHAPE)
        kind = part.get("type") or next(
            (key for key in ("text", *_THOUGHTS, *_MEDIA, "image_url") if part.get(key)), "text"
        )
        if not isinstance(kind, str):
            raise bad_value(where, "type: expected a text", _SHAPE)
        if kind in _TEXTS:
            found.texts.append(_text(part, where))
        elif kind in _THOUGHTS:
            found.thoughts.append(_thought(part, where))
        elif kind == "tool_use":
            found.calls.append(part)
        elif kind == "tool_call":  # LLaMA-Factory's, as JSON text
            found.calls.append(part.get("value", part.get("function", part)))
        elif kind == "tool_result":
            found.results.append(part)
        elif (medium := _MEDIA.get(kind.removesuffix("_url"))) is not None:
            media[medium] += 1
        else:
            raise bad_value(where, f"unknown type {kind!r} of a part of the content", _SHAPE)
    if media:
        raise not_text(place, media)
    return found


def not_text(place: str, media: Counter[str]) -> RefusedRow:
    """The refusal of a row with images or the like, of which a model would see only a part."""
    counts = ", ".join(f"{count} {name}" for name, count in sorted(media.items()))
    return RefusedRow("not only text", f"only text is read, and there is {counts}", where=place)


def _text(part: dict[str, Any], place: str) -> str:
    value = _first(part, _WORDS)
    if not isinstance(value, str):
        raise bad_value(place, "text: expected a text", _SHAPE)
    return value


def _thought(part: dict[str, Any], place: str) -> str:
    value = _first(part, (*_THOUGHTS, "text", "value"))
    if isinstance(value, list):  # Mistral's thought is a list of text parts
        return "".join(parse_parts(value, place).texts)
    if not isinstance(value, str):
        raise bad_value(place, "thinking: expected a text", '{"type": "thinking", "thinking": "…"}')
    return value


def _first(part: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((part[key] for key in keys if part.get(key) is not None), None)
