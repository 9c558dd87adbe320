"""The control strings of all formats: stops, stop tokens, role headers, end-of-text tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.records import Format

EOS_STRINGS = (
    "</s>",
    "<eos>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
)
"""End-of-text tokens of well-known tokenizers: a leak in any answer, whichever formats are loaded.
"""

_DEFAULT_NAMES = {"{user_name}": "User", "{assistant_name}": "Assistant"}
TOKEN = re.compile(
    r"<[|｜][^<>|｜\n]{1,40}[|｜]>|\[\|[^\[\]|\n]{1,30}\|\]|</?[a-z]+_[a-z_0-9]+>"
    r"|\[/?[A-Z][A-Z_]+\]|<</?[A-Z]+>>|<[a-z]+:[a-z]+>|<\|[a-z]+>|<[a-z]+\|>"
)
MARKED = re.compile(r"[:<#\[*{(]")


@dataclass(frozen=True, slots=True)
class ControlIndex:
    """The control strings of all known formats: which formats use each, and where each counts."""

    formats: Mapping[str, tuple[str, ...]]
    anywhere: re.Pattern[str] | None
    at_line_start: re.Pattern[str] | None


def control_strings(formats: Iterable[Format]) -> ControlIndex:
    """Index stops, stop tokens and role headers.

    What nobody writes by chance (``<|…|>``, ``[INST]``, ``<start_of_turn>``, EOS strings) counts
    anywhere; the rest, such as ``User:`` and ``### Response:``, at the start of a line. A header
    that is only a word (``user``) never counts, nor does one of a single letter (``Q:``) or an
    everyday label (``Answer:``), except to its own format.
    """
    users: dict[str, set[str]] = {eos: set() for eos in EOS_STRINGS}
    for chat_format in formats:
        for text in (*headers_of(chat_format), *ends_of(chat_format)):
            users.setdefault(text, set()).add(chat_format.id)
    anywhere = [text for text in users if is_distinctive(text)]
    return ControlIndex(
        formats={text: tuple(sorted(ids)) for text, ids in sorted(users.items())},
        anywhere=_pattern(map(re.escape, anywhere)),
        at_line_start=_pattern(map(_line_pattern, users.keys() - anywhere), "^[^\\S\n]*"),
    )


def is_distinctive(text: str) -> bool:
    return text in EOS_STRINGS or bool(TOKEN.match(text))


def headers_of(chat_format: Format) -> list[str]:
    """The role headers, and the control tokens in them (``<|im_start|>`` before a role that no
    format names).
    """
    headers = [text for role in chat_format.roles if (text := header_of(chat_format, role))]
    return [*headers, *(token for text in headers for token in TOKEN.findall(text))]


def header_of(chat_format: Format, role: str) -> str:
    """The header of a role with the names that a format gives by itself; "" where it is a word."""
    text = _filled(chat_format.roles.get(role, ""))
    return text if MARKED.search(text) else ""


def ends_of(chat_format: Format) -> list[str]:
    ends = map(_filled, (*chat_format.stops, *chat_format.stop_tokens))
    return [text for text in ends if MARKED.search(text)]


def _filled(text: str) -> str:
    for name, default in _DEFAULT_NAMES.items():
        text = text.replace(name, default)
    return text.strip()


def _line_pattern(text: str) -> str:
    """A heading ends its line (``## User guide`` is none); ``**User:**`` and ``User:`` may be
    followed by words.
    """
    rest = r"[^\S\n]*$" if text.startswith("#") else r"(?!\w)" if text[-1].isalnum() else ""
    return re.escape(text) + rest


def _pattern(parts: Iterable[str], before: str = "") -> re.Pattern[str] | None:
    """Longest first, so that a header is not cut short by one that begins it."""
    ordered = sorted(parts, key=lambda part: (-len(part), part))
    return re.compile(f"{before}({'|'.join(ordered)})", re.MULTILINE) if ordered else None
