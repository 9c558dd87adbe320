"""Answers in the files of other programs: lm-eval, Inspect, promptfoo and OpenAI batches.

By their documentation: ``samples_*.jsonl`` of lm-eval's ``--log_samples``, an Inspect log as JSON,
``promptfoo eval -o`` as JSON or JSON lines, and the output file of a batch of chat completions,
completions or responses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """An answer of a log. ``id`` is what the log calls its case; "" where it has no name."""

    id: str
    text: str
    prompt: str = ""


def log_rows(value: Any) -> list[Any] | None:
    """The rows of a whole JSON file: of Inspect, promptfoo, or a list. None for anything else."""
    if isinstance(value, list):
        return value
    if not isinstance(value, Mapping):
        return None
    inner = value.get("results")
    if isinstance(inner, Mapping):
        inner = inner.get("results")
    for rows in (value.get("samples"), inner, value.get("data"), value.get("train")):
        if isinstance(rows, list):
            return rows
    return None


def logged_answers(row: Mapping[str, Any], place: str) -> list[LoggedAnswer] | None:
    """The answers of one row of such a file; None for a row of something else.

    A request that failed has an empty answer. Raises HarnessError for a log without answers.
    """
    for is_one, read in _KINDS:
        if is_one(row):
            return list(read(row, place))
    return None


def _lm_eval(row: Mapping[str, Any], place: str) -> Iterator[LoggedAnswer]:
    answers = [each for request in row["resps"] for each in _texts(request)]
    if not answers:
        raise HarnessError(
            "this task of lm-eval logs log-probabilities, not answers",
            where=place,
            hint="take the samples of a task with output_type generate_until",
        )
    prompt = _first_argument(row.get("arguments"))
    for number, text in enumerate(answers):
        repeat = f".{number}" if len(answers) > 1 else ""
        yield LoggedAnswer(f"{row.get('doc_id', '')}{repeat}", text, prompt)


def _texts(request: Any) -> list[str]:
    """The answers to one request, repeats included; none where it is a log-probability."""
    if isinstance(request, str):
        return [request]
    return [each for each in request if isinstance(each, str)] if _all_text(request) else []


def _all_text(request: Any) -> bool:
    return isinstance(request, list) and all(isinstance(each, str) for each in request)


def _first_argument(arguments: Any) -> str:
    """The prompt: ``gen_args_0.arg_0``, in older files the first of a list."""
    if isinstance(arguments, Mapping):
        arguments = next(iter(arguments.values()), None)
        first = arguments.get("arg_0") if isinstance(arguments, Mapping) else None
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        first = first[0] if isinstance(first, list) and first else first
    return first if isinstance(first, str) else ""


def _inspect(row: Mapping[str, Any], _place: str) -> Iterator[LoggedAnswer]:
    asked = row["input"]
    if isinstance(asked, list):
        asked = "\n".join(map(_text_of, asked))
    epoch = row.get("epoch", 1)
    name = f"{row.get('id', '')}" + (f".{epoch}" if epoch != 1 else "")
    texts = [_text_of(_table(choice).get("message")) for choice in _list(row["output"]["choices"])]
    texts = texts or [""]
    for number, text in enumerate(texts):
        repeat = f"#{number}" if len(texts) > 1 else ""
        yield LoggedAnswer(name + repeat, text, asked if isinstance(asked, str) else "")


def _promptfoo(row: Mapping[str, Any], _place: str) -> Iterator[LoggedAnswer]:
    output = _table(row.get("response")).get("output")
    asked = row.get("prompt")
    asked = asked.get("raw", "") if isinstance(asked, Mapping) else asked
    numbers = (row.get(key) for key in ("testIdx", "promptIdx"))
    name = ".".join(str(number) for number in numbers if number is not None)
    provider = _table(row.get("provider"))
    by = str(provider.get("label") or provider.get("id") or "")
    text = output if isinstance(output, str) else "" if output is None else str(output)
    yield LoggedAnswer(" ".join(filter(None, (name, by))), text, str(asked or ""))


def _batch(row: Mapping[str, Any], _place: str) -> Iterator[LoggedAnswer]:
    body = _table(_table(row.get("response")).get("body"))
    choices = map(_table, _list(body.get("choices")))
    texts = [
        _text_of(choice.get("message") or {"content": choice.get("text")}) for choice in choices
    ]
    if items := _list(body.get("output")):  # of the endpoint /v1/responses
        texts = ["\n\n".join(_text_of(item) for item in items if _is_message(item))]
    texts = texts or [""]
    for number, text in enumerate(texts):
        repeat = f"#{number}" if len(texts) > 1 else ""
        yield LoggedAnswer(f"{row['custom_id']}{repeat}", text)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_message(item: Any) -> bool:
    return bool(_table(item).get("type", "message") == "message")


def _text_of(given: Any) -> str:
    """A message's thought and text. Parts that are no text, as images, are left out."""
    message = _table(given)
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    thought = message.get("reasoning_content") or message.get("reasoning")
    found = [thought, *(_part(part) for part in parts)]
    return "\n\n".join(text for text in found if isinstance(text, str) and text)


def _part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    return part.get("text") or part.get("reasoning")


def _is_lm_eval(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("resps"), list) and "doc_id" in row


def _is_inspect(row: Mapping[str, Any]) -> bool:
    return "input" in row and isinstance(row.get("output"), Mapping) and "choices" in row["output"]


def _is_promptfoo(row: Mapping[str, Any]) -> bool:
    return "promptIdx" in row and ("response" in row or "error" in row)


def _is_batch(row: Mapping[str, Any]) -> bool:
    return "custom_id" in row and ("response" in row or "error" in row)


_Read = Callable[[Mapping[str, Any], str], Iterator[LoggedAnswer]]
_KINDS: tuple[tuple[Callable[[Mapping[str, Any]], bool], _Read], ...] = (
    (_is_lm_eval, _lm_eval),
    (_is_inspect, _inspect),
    (_is_promptfoo, _promptfoo),
    (_is_batch, _batch),
)
