"""The limited process that compiles and runs templates from elsewhere (harness.formats.guard).

Run as a module it reads one JSON request a line from standard input, and writes one reply a line:
``result``, or ``fault`` (what the template raised), or ``harm`` (why it is refused).
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from jinja2 import TemplateSyntaxError
from jinja2.exceptions import SecurityError

from harness.formats.foreign import compiled, render_foreign
from harness.formats.kept.kept_trace import trace_kept
from harness.formats.skeleton import Probe
from harness.formats.traced import Traced
from harness.formats.tracing import REFUSALS, Extras, Run, Shape, run_traced
from harness.formats.unmark import Literals

_MEMORY = 2 << 30
_HARM = {
    "TimeoutError": "it takes more than {seconds:g} s of processor time",
    "SecurityError": "it tries to reach the interpreter ({error})",
    "MemoryError": "it fills the memory",
    "OverflowError": "it loops too often ({error})",
    "RecursionError": "it calls itself without end",
}
#: The sandbox refuses to change a list or an object, as it does in transformers: no harm.
_MUTATES = re.compile(r"access to attribute '[a-z]+' of '(?:list|dict|set)' object is unsafe")
_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
_TURNS = [
    {"role": role, "content": f"{role} {index}"}
    for index, role in enumerate(("system", "user", "assistant", "user", "assistant"))
]


def _check(request: dict[str, Any]) -> list[Any] | None:
    """Compile and run a template once or twice. A mistake in it is returned with its line."""
    try:
        compiled(request["template"])
    except TemplateSyntaxError as error:
        return [error.message, error.lineno]
    for messages in (_TURNS, _TURNS[1:2]):
        prompt = len(messages) == 1
        try:
            _render({**request, "messages": messages, "add_generation_prompt": prompt})
        except (SecurityError, OverflowError) as error:
            if not _MUTATES.search(str(error)):
                raise
        except REFUSALS:
            continue
    return None


def _render(request: dict[str, Any]) -> str:
    text = render_foreign(
        request["template"],
        request["messages"],
        add_generation_prompt=request["add_generation_prompt"],
        **request.get("tokens", _TOKENS),
    )
    return _limit(text, request)


def _trace(request: dict[str, Any]) -> tuple[str, list[Any], list[Any], list[Any]]:
    roles, names, *rest = request["shape"]
    template, variables, (thought_close, call_opens, stops) = request["run"]
    text, spans, plain, asked = run_traced(
        Run(template, variables, Literals(thought_close, tuple(call_opens), tuple(stops))),
        Shape(tuple(roles), tuple(names), *rest),
        request["contents"],
        Probe if request["probe"] else Traced,
        Extras(*request["extras"]) if request["extras"] else None,
    )
    return _limit(text, request), [list(span) for span in spans], list(plain), list(asked)


def _kept(request: dict[str, Any]) -> dict[str, Any]:
    reply = trace_kept(request)
    _limit(reply["text"], request)
    return reply


_DO: dict[str, Callable[[dict[str, Any]], Any]] = {
    "check": _check,
    "render": _render,
    "trace": _trace,
    "kept": _kept,
}


class _TooLongError(Exception):
    """A template has written more than it may."""


def _limit(text: str, request: dict[str, Any]) -> str:
    if len(text) > request["most"]:
        raise _TooLongError(f"it writes {len(text)} characters; {request['most']} are allowed")
    return text


def _reply(request: dict[str, Any]) -> dict[str, Any]:
    try:
        with _limited(request["seconds"]):
            return {"result": _DO[request["do"]](request)}
    except _TooLongError as error:
        return {"harm": str(error)}
    except BaseException as error:
        name = type(error).__name__
        if name in _HARM and not _MUTATES.search(str(error)):
            return {"harm": _HARM[name].format(error=error, seconds=request["seconds"])}
        return {"fault": [name, str(error)]}


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after this much processor time; a little later the system ends us.

    The signal waits for a single long operation, such as a power of large numbers, to end.
    """
    try:
        import resource
        import signal
    except ImportError:  # Windows has neither; the caller's patience remains
        yield
        return

    def stop(*_args: Any) -> NoReturn:
        raise TimeoutError

    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _main() -> None:
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        print(json.dumps(_reply(json.loads(line))), flush=True)


if __name__ == "__main__":
    _main()
