"""Parse an answer into its thought, text and calls: the inverse of rendering one.

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
    """Parse a generated answer.

    ``text`` is the answer with or without its stop. ``opened`` is the part of the answer that the
    generation prompt already contains, such as ``<think>`` and a newline (``opened_by``). ``tools``
    distinguish strings from numbers in formats that write arguments without quotes; without them, a
    value that is valid JSON is read as JSON. A bad answer raises nothing: text between call markers
    that is not a call is ``malformed``, and a thought or a call without its end is ``unclosed``. An
    answer without any markers keeps its text unchanged; otherwise text and thought are stripped.
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
    """The part of a thought that a generation prompt contains: an open or an empty one.

    "" if the model begins the thought itself.
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
    """The thought, the text after it, and whether it lacks its end.

    The opening marker may be missing if the closing one is present: many owners put it into the
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
