"""Model outputs and plain texts: ``{"id", "text"}``, rows of any schema, logs of other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.conversation import Conversation, Message
from harness.data.conversations import parse_conversation
from harness.data.eval_logs import log_rows, logged_answers
from harness.data.readers import jsonl_files, read_jsonl
from harness.data.schemas import detect
from harness.errors import HarnessError
from harness.files import parse_json, read_text


@dataclass(frozen=True, slots=True)
class Output:
    """One text, and the prompt that it answers if that is known."""

    id: str
    text: str
    prompt: str = ""


def read_outputs(name: str) -> list[Output]:
    """One output for each row of a file or of a folder's files: a text, or a last answer.

    An answer's thought is a part of its text. Logs of lm-eval, Inspect, promptfoo and OpenAI
    batches are read too (harness.data.eval_logs). Raises HarnessError with ``file:line`` for
    anything else.
    """
    return [
        output
        for file in jsonl_files([name])
        for place, row in _rows(file)
        for output in _outputs(row, place, _default_id(file, place))
    ]


def read_answers(name: str) -> list[tuple[str, str]]:
    """(id, text) of each text of a training file and of each answer of its conversations.

    From a conversation's second answer on, the id is ``id#index`` with the index of the message.
    """
    return [
        pair
        for file in jsonl_files([name])
        for place, row in _rows(file)
        for pair in _answers(row, place, _default_id(file, place))
    ]


def answer_texts(row_id: str, messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """(``id#index``, text) of each answer, and (``id#index#thought``, thought) of each thought.

    A thought can be recited as well as an answer, and each may be recited alone. Calls are left
    out: few words choose between few tools.
    """
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        if message.content:
            yield f"{row_id}#{index}", message.content
        if message.reasoning:
            yield f"{row_id}#{index}#thought", message.reasoning


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(``file:line``, object) of JSON lines, or (``file:row N``, object) of one JSON text."""
    value = _whole(file) if file.suffix == ".json" else None
    rows = log_rows(value)
    if rows is None:
        yield from read_jsonl(file)
        return
    for number, row in enumerate(rows, 1):
        place = f"{file}:row {number}"
        if not isinstance(row, dict):
            raise HarnessError(f"expected one JSON object, not a {type(row).__name__}", place)
        yield place, row


def _whole(file: Path) -> Any:
    """The file as one JSON text, or None where it is not one."""
    try:
        return parse_json(read_text(file))
    except ValueError:
        return None


def _default_id(file: Path, place: str) -> str:
    return f"{file.stem}-{place.rsplit(':', 1)[1].removeprefix('row ')}"


def _outputs(row: dict[str, Any], place: str, default_id: str) -> Iterator[Output]:
    logged = logged_answers(row, place)
    if logged is None:
        yield _output(row, place, default_id)
        return
    for answer in logged:
        name = f"{default_id} ({answer.id})" if answer.id else default_id
        yield Output(name, answer.text, answer.prompt)


def _output(row: dict[str, Any], place: str, default_id: str) -> Output:
    if (conversation := _conversation(row, place, default_id)) is None:
        prompt = row.get("prompt", "")
        row_id, text = _id(row, place, default_id), _text(row, place)
        return Output(row_id, text, prompt if isinstance(prompt, str) else "")
    messages = conversation.messages
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if not answers:
        raise HarnessError("the conversation has no answer", where=place)
    last = messages[answers[-1]]
    asked = [message.content for message in messages[: answers[-1]] if message.role != "assistant"]
    text = "\n\n".join(filter(None, (last.reasoning, last.content)))
    return Output(conversation.id, text, "\n".join(asked))


def _answers(row: dict[str, Any], place: str, default_id: str) -> Iterator[tuple[str, str]]:
    if logged := logged_answers(row, place):
        yield from ((f"{default_id} ({each.id})", each.text) for each in logged)
        return
    if (conversation := _conversation(row, place, default_id)) is None:
        yield _id(row, place, default_id), _text(row, place)
        return
    messages = conversation.messages
    first = next((at for at, message in enumerate(messages) if message.role == "assistant"), 0)
    for name, text in answer_texts(conversation.id, messages):
        yield conversation.id if name == f"{conversation.id}#{first}" else name, text


def _conversation(row: dict[str, Any], place: str, default_id: str) -> Conversation | None:
    """A row in a known schema as a conversation; None for plain text or an unknown schema."""
    schema = None if "text" in row and "messages" not in row else detect(row)
    return parse_conversation(row, place, default_id, schema) if schema else None


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
