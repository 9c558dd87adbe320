"""Results as the JSON that the results file holds, and back, whatever became of the file."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, get_args

from pydantic import TypeAdapter

from harness.backends.protocol import Answer, Result, ScoreRequest, why_unscored
from harness.conversation import ParsedAnswer
from harness.evaluation.requests import PlannedRequest
from harness.files import parse_json
from harness.records import Finish, Loglikelihood

#: Raises pydantic's ValidationError, which is a ValueError.
_PARSED = TypeAdapter(ParsedAnswer)
_LISTS = ("token_ids", "token_logprobs", "off_script")


def to_payload(result: Result) -> Any:
    """A result as JSON values. Raises ValueError for one that may not be stored."""
    if why := why_unscored(result):
        raise ValueError(why)
    return _fields(result) if isinstance(result, Answer) else [_fields(each) for each in result]


def from_payload(planned: PlannedRequest, text: str) -> Result:
    """The result of a request from stored JSON.

    Raises ValueError for what is no result of this request: cut JSON, fields of a wrong type, or
    numbers that may not be stored.
    """
    payload = parse_json(text)
    try:
        result: Result
        if isinstance(planned.request, ScoreRequest):
            result = [_loglikelihood(each) for each in payload]
            fits = len(result) == len(planned.request.answers)
        else:
            result, fits = _answer(payload), True
        why = why_unscored(result) if fits else "another number of answers"
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"no result: {error}") from None
    if why:
        raise ValueError(why)
    return result


def _fields(result: Answer | Loglikelihood) -> dict[str, Any]:
    """The fields of a record, without an answer's parts where there are none."""
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    if (parsed := values.pop("parsed", None)) is not None:
        values["parsed"] = asdict(parsed)
    return values


def _answer(payload: dict[str, Any]) -> Answer:
    values = _with_tuples(payload)
    if (parsed := values.pop("parsed", None)) is not None:
        values["parsed"] = _PARSED.validate_python(parsed)
    answer = Answer(**values)
    texts = (answer.text, answer.finish, answer.stop)
    if not all(isinstance(text, str) for text in texts) or answer.finish not in get_args(Finish):
        raise TypeError("text, finish and stop are texts")
    return answer


def _loglikelihood(payload: dict[str, Any]) -> Loglikelihood:
    scoring = Loglikelihood(**_with_tuples(payload))
    if not _is_number(scoring.logprob) or not isinstance(scoring.tokens, int):
        raise TypeError("logprob and tokens are numbers")
    return scoring


def _with_tuples(payload: dict[str, Any]) -> dict[str, Any]:
    values = dict(payload.items())
    for name in _LISTS:
        if name in values:
            if not isinstance(values[name], list) or not all(map(_is_number, values[name])):
                raise TypeError(f"{name} is a list of numbers")
            values[name] = tuple(values[name])
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
