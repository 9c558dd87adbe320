"""Does the answer end where it should, and does it leak what belongs to a format?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.metrics.control_strings import (
    EOS_STRINGS,
    MARKED,
    ControlIndex,
    ends_of,
    headers_of,
    is_distinctive,
)
from harness.metrics.registry import AnswerItem, Metric, Scored, scorer
from harness.metrics.words import words
from harness.records import Finish, Format

ECHO_WORDS = 8
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


@dataclass(frozen=True, slots=True)
class Leak:
    """A control string inside an answer, with the formats that use it.

    ``own_header`` is a turn header of the answer's own format, which is a run-on and not a leak.
    """

    start: int
    end: int
    text: str
    formats: tuple[str, ...]
    own_header: bool


def leaks(answer: str, index: ControlIndex, own: Format, prompt: str = "") -> tuple[Leak, ...]:
    """Control strings of any known format in the answer, in order.

    A string of the prompt may be quoted. Headers in plain words inside a closed code
    fence are data (``User: bob`` in YAML).
    """
    headers = set(headers_of(own))
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
    """A header of one letter (``Q:``) or of an everyday label (``Answer:``) is ordinary writing to
    all formats but its own.
    """
    single = sum(letter.isalnum() for letter in text) == 1 and not is_distinctive(text)
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
    answer: str,
    finish: Finish,
    chat_format: Format,
    index: ControlIndex,
    prompt_content: str,
    stops: Sequence[str] = (),
) -> dict[str, float | None]:
    """``stopped``, ``empty``, ``leak``, ``role_run_on`` and ``echo`` of an answer, each 0 or 1.

    ``stops`` are the rendered ones, where a format fills names into them. All are None after an
    engine error; ``echo`` is None when the prompt has fewer than 8 words, because it cannot occur.
    A stop that an engine left at the end of the text is no leak and no run-on.
    """
    if finish == "error":
        return dict.fromkeys(("stopped", "empty", "leak", "role_run_on", "echo"))
    stopped = finish == "stop"
    text = _without_own_end(answer, (*stops, *ends_of(chat_format))) if stopped else answer
    found = leaks(text, index, chat_format, prompt_content)
    named = any(
        re.search(rf"^{re.escape(stop.strip())}", text, re.MULTILINE)
        for stop in stops
        if MARKED.search(stop)
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
            is_distinctive(end) or shown[: -len(end)].endswith("\n") or shown == end
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


def _metric(name: str, about: str, rank: int, **facts: Any) -> Metric:
    better = facts.pop("better", "lower")
    return Metric(name, "answer", about, better, binary=True, tolerance=0.02, rank=rank, **facts)


@scorer(
    _metric(
        "stopped",
        "the answer ended with the format's stop or EOS before the limit",
        30,
        better="higher",
        headline=True,
        by_depth=True,
    ),
    _metric(
        "empty",
        "the answer contains only white space before its stop",
        31,
        headline=True,
        by_depth=True,
    ),
    _metric("leak", "the answer contains a control string of any known format", 32, headline=True),
    _metric(
        "role_run_on",
        "the answer contains the format's own next header, as if it opened another turn",
        33,
    ),
    _metric("echo", "the answer begins with eight or more words of the prompt", 34),
)
def ending(item: AnswerItem) -> Mapping[str, Scored]:
    """``stop_scores`` of an answer."""
    return stop_scores(item.text, item.finish, item.format, item.controls, item.prompt, item.stops)
