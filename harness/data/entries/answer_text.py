"""Read a thought and calls inside an answer's text, in the tags of Qwen, Hermes and R1.

Data sets of reasoning models write ``<think>…</think>`` before the answer, those of Hermes
``<tool_call>{…}</tool_call>`` after it. Both are parsed, so that each format can write its own
markers. Only complete blocks are parsed; a tag that is merely mentioned stays text.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from harness.data.entries.tool_calls import json_text
from harness.files import parse_json

_THOUGHT = re.compile(r"\s*<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL)
#: R1's prompt contains the opening tag, so its answers begin inside the thought.
_HEADLESS = re.compile(r"(.*?)</think>[^\S\n]*(?:\n|$)", re.DOTALL)
_CALLS = re.compile(
    r"(?:<tool_call>\s*\{(?:(?!</?tool_call>).)*\}\s*</tool_call>\s*)+\Z", re.DOTALL
)
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESULT = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>(.*?)</tools>", re.DOTALL)
_TAGS = re.compile(r"</?(?:tools|tool_call)>")


class AnswerText(NamedTuple):
    """The text of an answer, its thought and the objects of its calls."""

    words: str
    thought: str | None = None
    calls: tuple[dict[str, Any], ...] = ()


def split_thought(text: str) -> AnswerText:
    """The thought at the beginning of an answer, and the text after it.

    An empty pair of tags, which Qwen writes with thinking off, is not a thought. Newlines next to
    the tags belong to them.
    """
    found = _THOUGHT.match(text)
    if found is None and text.count("</think>") == 1 and "<think>" not in text:
        found = _HEADLESS.match(text)
    if found is None:
        return AnswerText(text)
    return AnswerText(text[found.end() :].lstrip("\n"), found[1].strip("\n") or None)


def split_calls(text: str) -> AnswerText:
    """The calls at the end of an answer, and the text before them."""
    found = _CALLS.search(text)
    calls = [_call(body) for body in _CALL.findall(found[0])] if found else []
    if found is None or not all(calls):
        return AnswerText(text)
    return AnswerText(text[: found.start()].rstrip(), None, tuple(filter(None, calls)))


def _call(body: str) -> dict[str, Any] | None:
    try:
        value = parse_json(body)
    except ValueError:
        return None
    well_formed = (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("arguments", value.get("parameters", {})), dict)
    )
    return value if well_formed and value["name"].strip() else None


def results_in(text: str) -> list[str]:
    """The results in a Hermes tool message, one for each pair of tags; empty without tags."""
    results, at = [], 0
    while found := _RESULT.match(text, at):
        results.append(found[1])
        at = found.end()
    return results if not text[at:].strip() else []


def split_tools(text: str) -> tuple[str, str] | None:
    """A system prompt without Hermes's instructions on tools, and the tool list as JSON text.

    The instructions are the lines from the first that names the tags through the last, and a
    heading ``# Tools`` before them: each format writes its own. None if there is no such list.
    """
    for found in _TOOLS.finditer(text):
        if tools := _objects(found[1]):
            places = [(tag.start(), tag.end()) for tag in _TAGS.finditer(text)]
            start = text.rfind("\n", 0, places[0][0]) + 1
            end = text.find("\n", places[-1][1])
            before = text[:start].rstrip()
            before = re.sub(r"(?:^|\n)# Tools\n+You may call one or more[^\n]*$", "", before)
            after = text[end:].strip() if end >= 0 else ""
            return "\n\n".join(filter(None, (before.rstrip(), after))), json_text(tools)
    return None


def _objects(text: str) -> list[dict[str, Any]]:
    """The objects of a list, or one on each line; empty if there is anything else."""
    for candidate in (text, f"[{','.join(text.strip().splitlines())}]"):
        try:
            value = parse_json(candidate)
        except ValueError:
            continue
        found = value if isinstance(value, list) else [value]
        return found if all(isinstance(one, dict) for one in found) else []
    return []
