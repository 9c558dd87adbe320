"""Results as the JSON that the results file holds, and which of them may be stored at all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, get_args

from harness.backends.protocol import NOT_FINITE, Answer, ScoreRequest, Unscored
from harness.evaluation.requests import PlannedRequest
from harness.records import Finish, Loglikelihood

Result = Answer | Sequence[Loglikelihood]
#: How far above 0 rounding may bring a log-probability.
_ROUNDING = 1e-3
_LISTS = ("token_ids", "token_logprobs", "off_script")


def why_unscored(result: Result | Unscored) -> str:
    """Why a backend's result is not stored and not scored, or "" where it is usable.

    Its numbers must be finite, and no log-probability above 0.
    """
    if isinstance(result, Unscored):
        return result.why
    if isinstance(result, Answer):
        return _why_not_finite("off-script probability", result.off_script)
    for scoring in result:
        logprobs = (scoring.logprob, *scoring.token_logprobs)
        why = _why_not_finite("log-probability", logprobs)
        why = why or _why_not_finite("off-script probability", scoring.off_script)
        if why:
            return why
        if max(logprobs) > _ROUNDING:
            return f"a log-probability of {max(logprobs):g} is above 0"
    return ""


def _why_not_finite(name: str, values: Iterable[float]) -> str:
    broken = [value for value in values if not math.isfinite(value)]
    if not broken:
        return ""
    article = "an" if name[0] == "o" else "a"
    return f"{NOT_FINITE} {article} {name} is {'NaN' if math.isnan(broken[0]) else broken[0]}"


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
    payload = json.loads(text)
    try:
        result: Result
        if isinstance(planned.request, ScoreRequest):
            result = [_loglikelihood(each) for each in payload]
            fits = len(result) == len(planned.request.answers)
        else:
            result, fits = _answer(payload), True
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"no result: {error}") from None
    if why := "" if fits else "another number of answers":
        raise ValueError(why)
    if why := why_unscored(result):
        raise ValueError(why)
    return result


def _fields(result: Answer | Loglikelihood) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in fields(result)}


def _answer(payload: dict[str, Any]) -> Answer:
    answer = Answer(**_with_tuples(payload))
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
