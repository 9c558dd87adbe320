"""A server's answers, checked before anything is made of them.

Proxies answer in HTML, servers cut JSON short, and some send texts where numbers belong. What is
not what it should be is malformed, never a result: a wrong number in the results file would stay.
"""

from __future__ import annotations

import math
import re
from typing import Any

from harness.backends.protocol import ROUNDING
from harness.files import parse_json
from harness.records import Finish

#: Characters that one token may have; most have four. More is no answer of so few tokens.
_LONGEST_TOKEN = 256
_SHOWN = 60
#: How an answer ended, by the server's reason; a chat that called a tool ended by itself.
_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "stop",
    "function_call": "stop",
}
_SURROGATES = re.compile("[\ud800-\udfff]")


class MalformedError(Exception):
    """An answer is not what the API promises. The message says what it is instead."""


def read_choice(body: str) -> dict[str, Any]:
    """The first of ``choices`` in an answer's JSON. Raises MalformedError."""
    try:
        page = parse_json(body)
    except ValueError:
        raise MalformedError(f"no JSON: {_shown(body)}") from None
    choices = page.get("choices") if isinstance(page, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise MalformedError(f"no choices: {_shown(body)}")
    found: dict[str, Any] = choices[0]
    return found


def read_text(choice: dict[str, Any], tokens: int, *, chat: bool) -> tuple[str, Finish]:
    """The text of a choice of at most ``tokens`` tokens, and how it ended. Raises MalformedError.

    A chat message without content is empty, as with a call of tools. Halves of a character that
    stand alone, which no file can hold, are replaced.
    """
    message = choice.get("message") if chat else choice
    name = "content" if chat else "text"
    text = message.get(name) if isinstance(message, dict) else None
    if chat and isinstance(message, dict) and text is None:
        text = ""
    if not isinstance(text, str):
        raise MalformedError(f"{name} is {_kind(text)} and not a text")
    if len(text) > _LONGEST_TOKEN * (tokens + 1):
        raise MalformedError(f"{len(text)} characters for at most {tokens} tokens")
    reason = choice.get("finish_reason")
    finish: Finish = _FINISHES.get(reason, "error") if isinstance(reason, str) else "error"
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text), finish


def read_logprobs(choice: dict[str, Any]) -> list[tuple[str, float | None]] | None:
    """Token and log-probability of an echoed text, None from a server without them.

    A NaN or an infinite one is passed on: the model gave it. Raises MalformedError for anything
    else that is no log-probability.
    """
    logprobs = choice.get("logprobs")
    if logprobs is None:
        return None
    if not isinstance(logprobs, dict):
        raise MalformedError(f"logprobs is {_kind(logprobs)}")
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not tokens or not values:
        return None
    if not isinstance(tokens, list) or not isinstance(values, list):
        raise MalformedError(f"tokens is {_kind(tokens)} and token_logprobs is {_kind(values)}")
    if len(tokens) != len(values) or not all(isinstance(token, str) for token in tokens):
        return None
    return [(token, _logprob(value)) for token, value in zip(tokens, values, strict=True)]


def _logprob(value: Any) -> float | None:
    """One log-probability; a first token has none. Raises MalformedError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedError(f"a log-probability is {_kind(value)} and not a number")
    if ROUNDING < value < math.inf:
        raise MalformedError(f"a log-probability of {str(value)[:20]} is above 0")
    return value if isinstance(value, float) else _as_float(value)


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return -math.inf


def one_line(text: str) -> str:
    """A server's message in one line of at most 200 characters."""
    return " ".join(text.split())[:200]


def without_credentials(url: str) -> str:
    """The address without user name and password, for messages and for the results file."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?[^/?#]*@", r"\1", url, flags=re.IGNORECASE)


def _shown(body: str) -> str:
    text = one_line(body)
    return repr(text[:_SHOWN] + "…" * (len(text) > _SHOWN)) if text else "nothing"


def _kind(value: Any) -> str:
    names = {type(None): "null", list: "a list", dict: "an object", bool: "true or false"}
    return names.get(type(value), "a text" if isinstance(value, str) else "a number")
