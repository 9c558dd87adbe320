"""Messages, tools and answers of ``/v1/chat/completions``: thoughts and calls in OpenAI's words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.conversation import Message, ParsedAnswer, ToolCall

THOUGHTS = ("reasoning_content", "reasoning")
"""Where servers put a thought: llama.cpp, SGLang and vLLM; Ollama and newer vLLM."""
_SHOWN = 200


def chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as the API takes them: arguments are JSON texts, and every call has an id.

    A call without one gets one of its own, and the results behind it name the calls in their order.
    """
    rows: list[dict[str, Any]] = []
    waiting: list[str] = []
    for index, message in enumerate(messages):
        row: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "assistant":
            ids = [call.id or f"call_{index}_{n}" for n, call in enumerate(message.tool_calls)]
            waiting = list(ids)
            if message.reasoning:
                row["reasoning_content"] = message.reasoning
            if ids:
                pairs = zip(message.tool_calls, ids, strict=True)
                row["tool_calls"] = [_call(call, call_id) for call, call_id in pairs]
        elif message.role == "tool":
            call_id = message.tool_call_id or next(iter(waiting), "")
            waiting = [each for each in waiting if each != call_id]
            row["tool_call_id"] = call_id
        rows.append(row)
    return rows


def _call(call: ToolCall, call_id: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call_id, "type": "function", "function": function}


def parsed_message(message: Any, text: str) -> ParsedAnswer | None:
    """What a server took out of the text of its answer; None where it took nothing out.

    Then the text may still hold the model's own marks. A call whose arguments are no JSON object is
    malformed.
    """
    if not isinstance(message, dict):
        return None
    thought = next((message[key] for key in THOUGHTS if isinstance(message.get(key), str)), None)
    calls: list[ToolCall] = []
    malformed: list[str] = []
    given = message.get("tool_calls")
    for entry in given if isinstance(given, list) else ():
        call = _read_call(entry)
        if call is None:
            malformed.append(str(entry)[:_SHOWN])
        else:
            calls.append(call)
    if not thought and not calls and not malformed:
        return None
    return ParsedAnswer(text, thought or None, tuple(calls), tuple(malformed))


def _read_call(entry: Any) -> ToolCall | None:
    function = entry.get("function") if isinstance(entry, dict) else None
    if not isinstance(function, dict):
        return None
    name, arguments = function.get("name"), function.get("arguments") or {}
    try:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return ToolCall(name, text) if isinstance(name, str) else None
    except (ValueError, RecursionError):
        return None
