"""Convert rows of ShareGPT, Alpaca, prompt and completion, or text to our ``messages``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from harness.data.refusals import RefusedRow, bad_value

SchemaName = Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "text"]

#: Speakers of ShareGPT files (FastChat, axolotl, LLaMA-Factory) → roles. Others are refused.
SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
}


@dataclass(frozen=True, slots=True)
class Schema:
    """One way to write a row: its necessary and optional keys, and its conversion to messages."""

    name: str
    needs: tuple[str, ...]
    allows: tuple[str, ...]
    messages: Callable[[dict[str, Any], str], Any]
    plain: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are read."""
        return (*self.needs, *self.allows, "id", "tags")


def _messages(row: dict[str, Any], _place: str) -> Any:
    return row["messages"]


def _sharegpt(row: dict[str, Any], place: str) -> Any:
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns:
        raise bad_value(
            place,
            "conversations: expected a non-empty list",
            '{"conversations": [{"from": "human", "value": "…"}, …]}',
        )
    return _system(row) + [
        _turn(turn, f"{place}: conversations[{index}]") for index, turn in enumerate(turns)
    ]


def _turn(turn: Any, place: str) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise bad_value(place, "expected an object with from and value")
    speaker = turn.get("from", turn.get("role"))
    if speaker not in SHAREGPT_ROLES:
        raise RefusedRow(
            "unknown role",
            f"unknown speaker {speaker!r}",
            where=place,
            hint=f"one of {', '.join(SHAREGPT_ROLES)}",
        )
    rest = {
        key: value for key, value in turn.items() if key not in ("from", "role", "value", "content")
    }
    return {
        "role": SHAREGPT_ROLES[speaker],
        "content": turn.get("value", turn.get("content")),
        **rest,
    }


def _alpaca(row: dict[str, Any], place: str) -> Any:
    """Instruction, blank line and input make one question, as in LLaMA-Factory and Stanford."""
    history = row.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in history
    ):
        raise bad_value(place, "history: expected a list of [question, answer]")
    earlier = [
        {"role": role, "content": text}
        for pair in history
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    instruction, extra = row["instruction"], row.get("input") or ""
    if not isinstance(instruction, str) or not isinstance(extra, str):
        raise bad_value(place, "instruction and input: expected texts")
    question = "\n\n".join(part for part in (instruction, extra) if part.strip())
    return [
        *_system(row),
        *earlier,
        {"role": "user", "content": question},
        {"role": "assistant", "content": row["output"]},
    ]


def _prompt_completion(row: dict[str, Any], place: str) -> Any:
    """Two texts or two lists of messages, as in TRL.

    A text loses the space between prompt and completion: formats write their own.
    """
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*_system(row), *prompt, *completion]
    if not isinstance(prompt, str) or not isinstance(completion, str):
        raise bad_value(place, "prompt and completion: expected two texts or two lists of messages")
    return [
        *_system(row),
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": completion.removeprefix(" ")},
    ]


def _text(row: dict[str, Any], _place: str) -> Any:
    return [{"role": "assistant", "content": row["text"]}]


def _system(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The system prompt of a row that has it beside the turns, unless it is empty."""
    return [{"role": "system", "content": row["system"]}] if row.get("system") else []


#: In order of detection.
SCHEMAS = {
    schema.name: schema
    for schema in (
        Schema("messages", ("messages",), (), _messages),
        Schema("sharegpt", ("conversations",), ("system",), _sharegpt),
        Schema("alpaca", ("instruction", "output"), ("input", "system", "history"), _alpaca),
        Schema("prompt-completion", ("prompt", "completion"), ("system",), _prompt_completion),
        Schema("text", ("text",), (), _text, plain=True),
    )
}


def detect(row: dict[str, Any]) -> Schema | None:
    """The first schema whose necessary keys are all in the row."""
    return next(
        (schema for schema in SCHEMAS.values() if all(key in row for key in schema.needs)), None
    )
