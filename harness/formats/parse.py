"""Read an answer back: its thought, its words and its calls. The inverse of rendering one.

The front matter of a format says how it marks them (``[thoughts]``, ``[content]``, ``[calls]``), so
nothing here knows a format by its name.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.conversation import AnswerMarks, CallMarks, ParsedAnswer, Tool
from harness.formats.answers.call_styles import Found, read_calls
from harness.formats.answers.channels import parse_channels
from harness.records import Format, Rendered


def parse_answer(
    text: str, chat_format: Format, *, opened: str = "", tools: Sequence[Tool] = ()
) -> ParsedAnswer:
    """Take a generated answer apart.

    ``text`` is the answer before or with its stop. ``opened`` is what the generation prompt has
    already written of it, such as ``<think>`` and a newline (``opened_by``). ``tools`` tell a text
    from a number where a format writes arguments without quotes; without them a value that reads as
    JSON is JSON. Nothing is raised for a bad answer: what is between call marks and no call is
    ``malformed``, and a thought or a call without its end is ``unclosed``. An answer without any
    mark keeps its words as they are; otherwise outer white space of words and thought goes.
    """
    calls = chat_format.call_marks
    if calls and calls.style == "channels":
        return parse_channels(opened + text)
    closing = chat_format.thought_marks.close.strip()
    if closing and closing in opened:
        opened = ""  # the prompt has written a whole thought, which is not the answer's
    text = opened + _before_stop(text, chat_format)
    thought, rest, open_thought = _thought(text, chat_format.thought_marks, calls)
    found = read_calls(rest, calls, tools) if calls else Found(rest)
    words = _without_marks(found.words, chat_format.content_marks)
    untouched = words == text
    return ParsedAnswer(
        words if untouched else words.strip(),
        thought.strip() or None,
        tuple(found.calls),
        tuple(found.malformed),
        open_thought or found.unclosed,
    )


def opened_by(prompt: Rendered, chat_format: Format) -> str:
    """What a generation prompt has written of the answer's thought: an open one, or an empty one.

    "" where the model itself begins.
    """
    opening = chat_format.thought_marks.open.strip()
    words = max(
        (s.end for s in prompt.spans if s.kind in ("content", "reasoning", "call")), default=0
    )
    at = prompt.text.rfind(opening, words) if opening else -1
    return prompt.text[at:] if at >= 0 else ""


def _before_stop(text: str, chat_format: Format) -> str:
    """The text without the stop that ends it."""
    calls = chat_format.call_marks
    kept = {calls.close, calls.section_close} if calls else set()
    for stop in (*chat_format.stops, *chat_format.stop_tokens):
        if stop not in kept and stop and text.endswith(stop):
            return text.removesuffix(stop)
    return text


def _thought(text: str, marks: AnswerMarks, calls: CallMarks | None) -> tuple[str, str, bool]:
    """The thought, what follows it, and whether it has no end.

    The opening mark may be missing where the closing one is there: many owners write it in the
    prompt, and their models do not repeat it.
    """
    opening, closing = marks.open.strip(), marks.close.strip()
    if not closing:
        return "", text, False
    body = text.lstrip()
    opens = bool(opening) and body.startswith(opening)
    thought, mark, rest = body.partition(closing)
    if opens:
        return thought.removeprefix(opening), rest, not mark
    others = (opening, calls.section_open or calls.open) if calls else (opening,)
    if mark and not any(other in thought for other in others if other):
        return thought, rest, False
    return "", text, False


def _without_marks(words: str, marks: AnswerMarks) -> str:
    if not marks.open:
        return words
    bare = words.strip().removeprefix(marks.open.strip())
    return bare.removesuffix(marks.close.strip()) if bare != words.strip() else words
