"""Model outputs and plain texts from JSON lines: ``{"id", "text"}``, or conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.conversations import parse_messages
from harness.data.readers import jsonl_files, read_jsonl
from harness.errors import HarnessError


@dataclass(frozen=True, slots=True)
class Output:
    """One text, and the prompt that it answers if that is known."""

    id: str
    text: str
    prompt: str = ""


def read_outputs(name: str) -> list[Output]:
    """One output for each line of a file or of a folder's files: a text or a last answer.

    Raises HarnessError with ``file:line`` for anything else.
    """
    return [
        _output(row, place, default_id=_default_id(file, place))
        for file in jsonl_files([name])
        for place, row in read_jsonl(file)
    ]


def read_answers(name: str) -> list[tuple[str, str]]:
    """(id, text) of each text of a training file and of each answer of its conversations.

    From a conversation's second answer on, the id is ``id#index`` with the index of the message.
    """
    return [
        pair
        for file in jsonl_files([name])
        for place, row in read_jsonl(file)
        for pair in _answers(row, place, _default_id(file, place))
    ]


def _default_id(file: Path, place: str) -> str:
    return f"{file.stem}-{place.rsplit(':', 1)[1]}"


def _output(row: dict[str, Any], place: str, default_id: str) -> Output:
    row_id = _id(row, place, default_id)
    if "messages" in row:
        messages = parse_messages(row["messages"], place)
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if not answers:
            raise HarnessError("the conversation has no answer", where=place)
        asked = [
            message.content for message in messages[: answers[-1]] if message.role != "assistant"
        ]
        return Output(row_id, messages[answers[-1]].content, "\n".join(asked))
    prompt = row.get("prompt", "")
    return Output(row_id, _text(row, place), prompt if isinstance(prompt, str) else "")


def _answers(row: dict[str, Any], place: str, default_id: str) -> Iterator[tuple[str, str]]:
    row_id = _id(row, place, default_id)
    if "messages" not in row:
        yield row_id, _text(row, place)
        return
    answers = [
        (index, message.content)
        for index, message in enumerate(parse_messages(row["messages"], place))
        if message.role == "assistant"
    ]
    for number, (index, content) in enumerate(answers):
        yield row_id if number == 0 else f"{row_id}#{index}", content


def _id(row: dict[str, Any], place: str, default: str) -> str:
    row_id = row.get("id", default)
    if not isinstance(row_id, str | int) or isinstance(row_id, bool) or row_id == "":
        raise HarnessError("id: expected a text or a number", where=place)
    return str(row_id)


def _text(row: dict[str, Any], place: str) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise HarnessError(
            "expected a text or messages", where=place, hint='{"id": "…", "text": "…"}'
        )
    return text
