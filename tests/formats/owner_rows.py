"""Conversations as the owners' templates want them, where that is not transformers' usual form.

Each function takes the rows of ``conversation_shapes.rows`` and returns others. Owners whose
template knows no thoughts or calls take them as a part of the words.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Rows = list[Row]


def each(change: Callable[[Row], Row]) -> Callable[[Rows], Rows]:
    """A change of single rows."""
    return lambda rows: [change(row) for row in rows]


def dumps(value: Any) -> str:
    """JSON as transformers' ``tojson`` writes it."""
    return json.dumps(value, ensure_ascii=False)


def chain(*steps: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
    """One step behind the other."""

    def run(rows: Rows) -> Rows:
        for step in steps:
            rows = step(rows)
        return rows

    return run


def thoughts_in_words(opening: str, closing: str, last: str | None = None):
    """A thought as the beginning of the words; ``last`` is its opening in the last message."""

    def run(rows: Rows) -> Rows:
        changed = []
        for index, row in enumerate(rows):
            opens = opening if last is None or index < len(rows) - 1 else last
            words = opens + row.get("reasoning_content", "") + closing + row["content"]
            kept = {key: row[key] for key in row if key != "reasoning_content"}
            changed.append({**kept, "content": words} if "reasoning_content" in row else row)
        return changed

    return run


def calls_in_words(write: Callable[[str, list[Row]], str]):
    """Calls as a part of the words: ``write`` gets the words and the calls' functions."""

    def change(row: Row) -> Row:
        if not row.get("tool_calls"):
            return row
        words = write(row["content"], [call["function"] for call in row["tool_calls"]])
        return {key: row[key] for key in row if key != "tool_calls"} | {"content": words}

    return each(change)


def result_role(role: str):
    """Results in another role."""
    return lambda rows: [{**row, "role": role} if row["role"] == "tool" else row for row in rows]


def tagged(words: str, calls: list[Row]) -> str:
    """The calls as JSON between tags of their own, as Hermes writes them."""
    written = [
        f'<tool_call>\n{{"name": "{each["name"]}", "arguments": {dumps(each["arguments"])}}}\n'
        "</tool_call>"
        for each in calls
    ]
    return "\n".join([words] * bool(words) + written)


def granite(_words: str, calls: list[Row]) -> str:
    """A JSON list behind Granite 3's token."""
    return "<|tool_call|>" + dumps(calls)


def minimax(words: str, calls: list[Row]) -> str:
    """A JSON object a line, between MiniMax M1's tags."""
    lines = "".join(f"{dumps(each)}\n" for each in calls)
    return f"{words}{chr(10) * bool(words)}<tool_calls>\n{lines}</tool_calls>"


@each
def granite_thoughts(row: Row) -> Row:
    """Granite 3.3's tags around a thought and the response."""
    if not row.get("reasoning_content"):
        return row
    words = row["content"]
    if not words.startswith("<|tool_call|>"):
        words = f"<response>{words}</response>"
    return {"role": row["role"], "content": f"<think>{row['reasoning_content']}</think>{words}"}


@each
def arguments_as_text(row: Row) -> Row:
    """Arguments as JSON text, in messages whose content is null if they say nothing."""
    if not row.get("tool_calls"):
        return row
    written = [
        {**call, "function": {**call["function"], "arguments": dumps(arguments)}}
        for call in row["tool_calls"]
        for arguments in [call["function"]["arguments"]]
    ]
    return {**row, "tool_calls": written, "content": row["content"] or None}


def arguments_as_text_beside_words(rows: Rows) -> Rows:
    """The same, and the content stays a text."""
    return [{**row, "content": row["content"] or ""} for row in arguments_as_text(rows)]


def kimi_ids(rows: Rows) -> Rows:
    """The ids that Kimi's model writes: the function's name and the call's number."""
    names = [call["function"]["name"] for row in rows for call in row.get("tool_calls", [])]
    ids = [f"functions.{name}:{number}" for number, name in enumerate(names)]
    called, answered = iter(ids), iter(ids)

    def change(row: Row) -> Row:
        if row["role"] == "tool":
            return {**row, "tool_call_id": next(answered)}
        calls = [{**call, "id": next(called)} for call in row.get("tool_calls", [])]
        return {**row, "tool_calls": calls} if calls else row

    return [change(row) for row in rows]


@each
def glm4(row: Row) -> Row:
    """A call as an answer with the function's name as its metadata."""
    if row["role"] == "tool":
        return {**row, "role": "observation"}
    if not row.get("tool_calls"):
        return row
    function = row["tool_calls"][0]["function"]
    words = dumps(function["arguments"])
    return {"role": "assistant", "metadata": function["name"], "content": words}


def in_parts(rows: Rows) -> Rows:
    """Words as a list of parts; results that follow each other are parts of one message."""
    changed: Rows = []
    for row in rows:
        part = {"type": "text", "text": row["content"]}
        if row["role"] != "tool":
            changed.append({**row, "content": [part]})
        elif changed[-1]["role"] == "tool":
            changed[-1]["content"].append({**part, "name": row["name"]})
        else:
            changed.append({"role": "tool", "content": [{**part, "name": row["name"]}]})
    return changed


@each
def thinking_parts(row: Row) -> Row:
    """A thought as a part of the content, as Mistral's templates want it."""
    if not row.get("reasoning_content"):
        return row
    parts = [{"type": "thinking", "thinking": row["reasoning_content"]}]
    parts += [{"type": "text", "text": row["content"]}] if row["content"] else []
    return {key: row[key] for key in row if key != "reasoning_content"} | {"content": parts}


def thinking_key(rows: Rows) -> Rows:
    """The thought under OpenAI's key."""
    return [
        {("thinking" if key == "reasoning_content" else key): row[key] for key in row}
        for row in rows
    ]


def told_not_to_think(rows: Rows) -> Rows:
    """Nemotron's /no_think in the system prompt."""
    if rows[0]["role"] == "system":
        return [{**rows[0], "content": rows[0]["content"] + " /no_think"}, *rows[1:]]
    return [{"role": "system", "content": "/no_think"}, *rows]
