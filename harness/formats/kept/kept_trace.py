"""Render a conversation in a kept template, as transformers does, and find its spans.

Runs in the limited process (harness.formats.guard_process).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from harness.formats.foreign import render_foreign
from harness.formats.kept.kept_spans import Tracer
from harness.formats.provenance import Sourced
from harness.formats.tracing import REFUSALS
from harness.records import SpanKind

Given = Mapping[str, Any]
"""A message of a request: role, content, name, reasoning, calls, tool_call_id."""


class _Rows:
    """The messages of a conversation as a template gets them, each text with its source."""

    def __init__(self, way: Given, *, sourced: bool) -> None:
        self._way, self._sourced = way, sourced
        self.sources: list[tuple[SpanKind, int]] = []
        self._numbers: dict[tuple[SpanKind, int], int] = {}

    def text(self, text: str, kind: SpanKind, message: int = -1) -> str:
        if not self._sourced:
            return text
        number = self._numbers.get((kind, message))
        if number is None:
            number = self._numbers[kind, message] = len(self.sources)
            self.sources.append((kind, message))
        return Sourced.of(text, number)

    def row(self, index: int, given: Given) -> dict[str, Any]:
        """A message; calls with an object of arguments, or their JSON text."""
        words: Any = self.text(given["content"], "content", index)
        if self._way.get("content") == "parts":
            words = [{"type": "text", "text": words}]
        row: dict[str, Any] = {"role": given["role"], "content": words}
        if given.get("reasoning"):
            thought = self.text(given["reasoning"], "reasoning", index)
            row["thinking"] = row["reasoning_content"] = thought  # as transformers does
            row[self._way.get("thought", "reasoning_content")] = thought
        if given.get("calls"):
            row["tool_calls"] = [self._call(index, *call) for call in given["calls"]]
        for key in ("name", "tool_call_id"):
            if given.get(key):
                row[key] = given[key]
        return row

    def _call(self, index: int, name: str, arguments: str, call_id: str | None) -> dict[str, Any]:
        as_text = self._way.get("arguments") == "text"
        value = arguments if as_text else json.loads(arguments)
        function = {"name": self.text(name, "call", index), "arguments": self._value(index, value)}
        return {**({"id": call_id} if call_id else {}), "type": "function", "function": function}

    def _value(self, index: int, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value, "call", index)
        if isinstance(value, dict):
            return {self._value(index, key): self._value(index, one) for key, one in value.items()}
        return [self._value(index, one) for one in value] if isinstance(value, list) else value


def trace_kept(request: Given) -> dict[str, Any]:
    """Text, spans and answers of a request.

    ``plain`` renders without sources: the text alone. Raises what the template raises, and
    Untraceable.
    """
    rows = _Rows(request["way"], sourced=not request.get("plain"))
    messages = [rows.row(index, given) for index, given in enumerate(request["messages"])]
    variables: dict[str, Any] = {
        "bos_token": rows.text(request["bos_token"], "bos"),
        "eos_token": rows.text(request["eos_token"], "eos"),
        **request["variables"],
    }
    if request["tools"]:
        variables["tools"] = [json.loads(tool) for tool in request["tools"]]
    write = partial(_write, request["template"], datetime.fromisoformat(request["now"]), variables)
    if request.get("plain"):
        return {"text": write(messages, request["prompt"])}
    following = len(messages)

    def question(words: str) -> Given:
        return rows.row(following, {"role": "user", "content": words})

    question("")  # its number is known before a rendering is read
    tracer = Tracer(write, messages, rows.sources, request["stops"], question)
    try:
        text, spans, answers = tracer.trace(request["prompt"])
    except REFUSALS:
        trace_kept({**request, "plain": True})  # raises it in the words of plain text
        raise
    return {"text": text, "spans": spans, "answers": answers}


def _write(
    template: str,
    now: datetime,
    variables: Mapping[str, Any],
    messages: Sequence[Given],
    prompt: bool,
) -> str:
    return render_foreign(
        template, list(messages), add_generation_prompt=prompt, now=now, **variables
    )
