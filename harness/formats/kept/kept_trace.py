"""Render a conversation in a kept template, as transformers does, and find its spans.

Runs in the limited process (harness.formats.guard_process).
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from harness.formats.foreign import render_foreign
from harness.formats.kept.kept_spans import Tracer
from harness.formats.provenance import Sourced
from harness.formats.tracing import REFUSALS, LostCall
from harness.records import Span, SpanKind

Given = Mapping[str, Any]
"""A message of a request: role, content, name, reasoning, calls, tool_call_id."""


class _Rows:
    """The messages of a conversation as a template gets them, each text with its source."""

    def __init__(self, way: Given, *, sourced: bool) -> None:
        self._way, self._sourced = way, sourced
        self.sources: list[tuple[SpanKind, int]] = []
        self._calls: list[tuple[int, str, dict[int, str]]] = []
        """Message, name, and the texts of each call by their sources, the name first."""
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
        """A call with a source for each of its texts but its id."""
        as_text = self._way.get("arguments") == "text"
        value = arguments if as_text else json.loads(arguments)
        self._calls.append((index, name, {}))
        function = {"name": self._leaf(index, name), "arguments": self._value(index, value)}
        return {**({"id": call_id} if call_id else {}), "type": "function", "function": function}

    def _leaf(self, index: int, text: str) -> str:
        if not self._sourced or not text:
            return text
        self._calls[-1][2][len(self.sources)] = text
        self.sources.append(("call", index))
        return Sourced.of(text, len(self.sources) - 1)

    def check_calls(self, written: Container[int], text: str, spans: Sequence[Span]) -> None:
        """Raise LostCall for a call whose name is not written, or whose arguments are not.

        An argument may have lost its source on the way; then its text must be in the answer.
        """
        for message, name, texts in self._calls:
            answer = "".join(text[s.start : s.end] for s in spans if s.message == message)
            sources = list(texts)
            lost = [texts[source] for source in sources if source not in written]
            if sources[0] not in written or not all(_is_in(one, answer) for one in lost):
                raise LostCall(f"it drops the call of {name} in message {message}")

    def _value(self, index: int, value: Any) -> Any:
        if isinstance(value, str):
            return self._leaf(index, value)
        if isinstance(value, dict):
            return {self._value(index, key): self._value(index, one) for key, one in value.items()}
        return [self._value(index, one) for one in value] if isinstance(value, list) else value


def _is_in(words: str, text: str) -> bool:
    forms = (words, json.dumps(words)[1:-1], json.dumps(words, ensure_ascii=False)[1:-1])
    return any(form in text for form in forms)


def trace_kept(request: Given) -> dict[str, Any]:
    """Text, spans and answers of a request.

    ``plain`` renders without sources: the text alone. Raises what the template raises, Untraceable,
    and LostCall for a call that it leaves out.
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
    rows.check_calls(tracer.written, text, spans)
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
