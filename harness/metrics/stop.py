"""Does the answer end where it should, and does it leak what belongs to a format (METRICS §1)?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.metrics.words import words
from harness.records import Format, Generation

ECHO_WORDS = 8
EOS_STRINGS = (
    "</s>",
    "<eos>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
)
"""End-of-text tokens of well-known tokenizers: a leak in any answer, whichever formats are loaded."""

_DEFAULT_NAMES = {"{user_name}": "User", "{assistant_name}": "Assistant"}
_TOKEN = re.compile(
    r"<[|｜][^<>|｜\n]{1,40}[|｜]>|\[\|[^\[\]|\n]{1,30}\|\]|</?[a-z]+_[a-z_0-9]+>|\[/?[A-Z][A-Z_]+\]|<</?[A-Z]+>>|<[a-z]+:[a-z]+>|<\|[a-z]+>|<[a-z]+\|>"
)
_ORDINARY_LABELS = frozenset(
    {
        "Answer:",
        "Question:",
        "Input:",
        "Output:",
        "Source:",
        "Destination:",
        "Instruct:",
        "System:",
        "system:",
        "###",
        "[Round",
    }
)
"""What people write at the start of a line without thinking of a prompt format."""
_MARKED = re.compile(r"[:<#\[*{(]")


@dataclass(frozen=True, slots=True)
class Leak:
    """A control string inside an answer, with the formats that use it. ``own_header`` is a turn header of the answer's
    own format, which is a run-on and not a leak."""

    start: int
    end: int
    text: str
    formats: tuple[str, ...]
    own_header: bool


@dataclass(frozen=True, slots=True)
class ControlIndex:
    """The control strings of all known formats: which formats use each, and where each counts."""

    formats: Mapping[str, tuple[str, ...]]
    anywhere: re.Pattern[str] | None
    at_line_start: re.Pattern[str] | None


def control_strings(formats: Iterable[Format]) -> ControlIndex:
    """Index stops, stop tokens and role headers.

    What nobody writes by chance (``<|…|>``, ``[INST]``, ``<start_of_turn>``, EOS strings) counts anywhere; the rest,
    such as ``User:`` and ``### Response:``, at the start of a line. A header that is only a word (``user``) never
    counts, nor does one of a single letter (``Q:``) or an everyday label (``Answer:``), except to its own format.
    """
    users: dict[str, set[str]] = {eos: set() for eos in EOS_STRINGS}
    for format in formats:
        for text in (*_headers(format), *_ends(format)):
            users.setdefault(text, set()).add(format.id)
    anywhere = [text for text in users if _is_distinctive(text)]
    return ControlIndex(
        formats={text: tuple(sorted(ids)) for text, ids in sorted(users.items())},
        anywhere=_pattern(map(re.escape, anywhere)),
        at_line_start=_pattern(map(_line_pattern, users.keys() - anywhere), "^[^\\S\n]*"),
    )


def _is_distinctive(text: str) -> bool:
    return text in EOS_STRINGS or bool(_TOKEN.match(text))


def _headers(format: Format) -> list[str]:
    """The role headers, and the control tokens in them (``<|im_start|>`` before a role that no format names)."""
    headers = [text for text in map(_filled, format.roles.values()) if _MARKED.search(text)]
    return [*headers, *(token for text in headers for token in _TOKEN.findall(text))]


def _ends(format: Format) -> list[str]:
    return [
        text for text in map(_filled, (*format.stops, *format.stop_tokens)) if _MARKED.search(text)
    ]


def _filled(text: str) -> str:
    for name, default in _DEFAULT_NAMES.items():
        text = text.replace(name, default)
    return text.strip()


def _line_pattern(text: str) -> str:
    """A heading ends its line (``## User guide`` is none); ``**User:**`` and ``User:`` may be followed by words."""
    rest = r"[^\S\n]*$" if text.startswith("#") else r"(?!\w)" if text[-1].isalnum() else ""
    return re.escape(text) + rest


def _pattern(parts: Iterable[str], before: str = "") -> re.Pattern[str] | None:
    """Longest first, so that a header is not cut short by one that begins it."""
    ordered = sorted(parts, key=lambda part: (-len(part), part))
    return re.compile(f"{before}({'|'.join(ordered)})", re.MULTILINE) if ordered else None


def leaks(answer: str, index: ControlIndex, own: Format, prompt: str = "") -> tuple[Leak, ...]:
    """Control strings of any known format in the answer, in order.

    A string that stands in the prompt may be quoted. Headers in plain words inside a closed code fence are data
    (``User: bob`` in YAML).
    """
    headers = set(_headers(own))
    ignored = {text: text in prompt or _is_weak(text, own, index) for text in index.formats}
    found = {}
    for pattern, text in ((index.anywhere, answer), (index.at_line_start, _without_fences(answer))):
        for match in pattern.finditer(text) if pattern else ():
            control = match[1].rstrip()
            if not ignored[control]:
                start = match.start(1)
                is_header = control in headers
                found[start] = Leak(
                    start, start + len(control), control, index.formats[control], is_header
                )
    return tuple(found[start] for start in sorted(found))


def _is_weak(text: str, own: Format, index: ControlIndex) -> bool:
    """A header of one letter (``Q:``) or of an everyday label (``Answer:``) is ordinary writing to all formats but its own."""
    single = sum(letter.isalnum() for letter in text) == 1 and not _is_distinctive(text)
    return (single or text in _ORDINARY_LABELS) and own.id not in index.formats[text]


def _without_fences(answer: str) -> str:
    """Closed code fences blanked by as many spaces; one that stays open is text."""
    if "```" not in answer and "~~~" not in answer:
        return answer
    lines = answer.split("\n")
    opened = -1
    for at, line in enumerate(lines):
        mark = line.lstrip()[:3]
        if opened < 0 and mark in ("```", "~~~"):
            opened = at
        elif opened >= 0 and line.strip() == lines[opened].lstrip()[:3]:
            lines[opened : at + 1] = [" " * len(inside) for inside in lines[opened : at + 1]]
            opened = -1
    return "\n".join(lines)


def stop_scores(
    generation: Generation,
    format: Format,
    index: ControlIndex,
    prompt_content: str,
    stops: Sequence[str] = (),
) -> dict[str, float | None]:
    """``stopped``, ``empty``, ``leak``, ``role_run_on`` and ``echo`` of one generation, each 0 or 1.

    ``stops`` are the rendered ones, where a format fills names into them. All are None after an engine error; ``echo``
    is None when the prompt has fewer than 8 words, because it cannot occur. A stop that an engine left at the end of
    the text is no leak and no run-on.
    """
    if generation.finish == "error":
        return dict.fromkeys(("stopped", "empty", "leak", "role_run_on", "echo"))
    stopped = generation.finish == "stop"
    text = (
        _without_own_end(generation.text, (*stops, *_ends(format))) if stopped else generation.text
    )
    found = leaks(text, index, format, prompt_content)
    named = any(
        re.search(rf"^{re.escape(stop.strip())}", text, re.MULTILINE)
        for stop in stops
        if _MARKED.search(stop)
    )
    return {
        "stopped": float(stopped),
        "empty": float(not text.strip()),
        "leak": float(any(not leak.own_header for leak in found)),
        "role_run_on": float(named or any(leak.own_header for leak in found)),
        "echo": _echo(text, prompt_content),
    }


def _without_own_end(text: str, ends: Sequence[str]) -> str:
    """The text without one control string of its own format or one EOS string at its very end."""
    shown = text.rstrip()
    for end in sorted(
        {*filter(None, (end.strip() for end in ends)), *EOS_STRINGS}, key=len, reverse=True
    ):
        if shown.endswith(end) and (
            _is_distinctive(end) or shown[: -len(end)].endswith("\n") or shown == end
        ):
            return shown[: -len(end)]
    return text


def _echo(answer: str, prompt: str) -> float | None:
    asked = [word.casefold() for word in words(prompt)]
    if len(asked) < ECHO_WORDS:
        return None
    start = [word.casefold() for word in words(answer[:2000])[:ECHO_WORDS]]
    if len(start) < ECHO_WORDS:
        return 0.0
    return float(
        any(asked[at : at + ECHO_WORDS] == start for at in range(len(asked) - ECHO_WORDS + 1))
    )
