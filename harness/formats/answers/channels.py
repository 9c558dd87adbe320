"""Parse an answer in OpenAI's harmony format: messages with a channel and a recipient."""

from __future__ import annotations

import json
import re

from harness.conversation import ParsedAnswer, ToolCall

_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_END = re.compile(r"<\|(?:end|call|return)\|>")
_RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")


def parse_channels(text: str) -> ParsedAnswer:
    """Parse an answer that begins after ``<|start|>assistant``.

    The channel ``analysis`` is the thought. A message with a recipient is a call. The rest is the
    answer's words: the channel ``final``, and ``commentary`` to nobody.
    """
    thoughts: list[str] = []
    words: list[str] = []
    calls: list[ToolCall] = []
    malformed: list[str] = []
    unclosed = False
    for part in text.split(_START):
        header, mark, body = part.partition(_MESSAGE)
        if not mark:
            if _CHANNEL in header:
                unclosed = True
            elif header.strip().removeprefix("assistant"):
                words.append(header)
            continue
        end = _END.search(body)
        body = body[: end.start()] if end else body
        recipient = _RECIPIENT.search(header)
        channel = header.rpartition(_CHANNEL)[2].split()[:1]
        if recipient:
            unclosed |= not _add_call(recipient[1], body, calls, malformed) and end is None
        elif channel == ["analysis"]:
            unclosed |= end is None
            thoughts.append(body.strip())
        else:
            words.append(body)
    thought = "\n".join(thoughts).strip()
    content = "\n".join(words)
    return ParsedAnswer(content, thought or None, tuple(calls), tuple(malformed), unclosed)


def _add_call(name: str, body: str, calls: list[ToolCall], malformed: list[str]) -> bool:
    """Add a valid or malformed call. Returns whether it is valid."""
    try:
        arguments = json.loads(body)
    except (ValueError, RecursionError):
        arguments = None
    if isinstance(arguments, dict):
        calls.append(ToolCall(name, json.dumps(arguments, ensure_ascii=False)))
    else:
        malformed.append(body.strip())
    return isinstance(arguments, dict)
