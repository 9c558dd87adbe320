"""Run templates from elsewhere in a limited process of their own, every time.

Jinja's sandbox keeps a template from reaching the interpreter, but not from looping, filling the
memory or writing without end, neither when it is compiled (constants are folded) nor when it runs.
A harmless first rendering says little: a template can wait for a sixth message or for another BOS.
So a template that is not shipped is compiled and run by one process that stays
(harness.formats.guard_process), with limits of time, memory and output at each rendering. It is
ended and started again when a template does not stop. One that did harm is refused from then on.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

#: Processor time and characters that a rendering may use beyond what its words take.
SECONDS = 2.0
CHARACTERS = 100_000
#: Words of this many characters give a rendering another second.
_CHARACTERS_A_SECOND = 100_000
#: How many times a format may write its words: a few repeat the system prompt in each turn.
_REPEATED = 16
#: Longest template that is read at all, in characters. Those in use have up to some 20 000.
LONGEST_TEMPLATE = 1_000_000
#: Seconds on the clock after which the process is ended, whatever it is doing.
_PATIENCE = 60.0
_STUCK = f"it takes more than {SECONDS:g} s or all the memory"


class TemplateFaultError(Exception):
    """What a template raised in the process: the exception's ``name`` and message."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


def check_template(template: str, where: str, first_line: int = 1) -> None:
    """Compile a template and run it on a few short messages.

    Raises HarnessError for one that does not compile, naming its line (``first_line`` is the
    template's own in its file), and for one that does harm: it loops, fills the memory, writes too
    much, or tries to reach the interpreter. Refusing the messages is no harm.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise HarnessError(
            f"a template of {len(template)} characters; at most {LONGEST_TEMPLATE} are read",
            where=where,
        )
    syntax = _ask({"do": "check", "template": template}, template, where)
    if syntax:
        message, line = syntax
        raise HarnessError(
            f"the template does not compile: {message}", where=f"{where}:{first_line - 1 + line}"
        )


def render_guarded(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    where: str,
    *,
    add_generation_prompt: bool,
    tokens: Mapping[str, Any],
) -> str:
    """What ``harness.formats.foreign.render_foreign`` writes, by the limited process.

    ``tokens`` are the special tokens and any other variable that the template reads. Raises
    HarnessError for harm, and TemplateFaultError for what the template raises.
    """
    options = {"add_generation_prompt": add_generation_prompt, "tokens": dict(tokens)}
    asked = {"do": "render", "template": template, "messages": list(messages), **options}
    tools = tokens.get("tools")
    words = sum(map(_words, messages)) + (len(json.dumps(tools)) if tools else 0)
    return str(_ask(asked, template, where, words))


def _words(row: Mapping[str, Any]) -> int:
    """How many characters a message has, roughly where it is more than text."""
    more = [value for key, value in row.items() if key not in ("role", "content")]
    content = row.get("content") or ""
    length = len(content) if isinstance(content, str) else len(json.dumps(content))
    return length + (len(json.dumps(more)) if more else 0)


def trace_guarded(
    run: Sequence[Any],
    shape: Sequence[Any],
    contents: Sequence[str],
    where: str,
    *,
    probe: bool,
    extras: Sequence[Any] | None = None,
) -> tuple[str, list[list[Any]], list[list[int]], list[list[Any]]]:
    """What ``harness.formats.tracing.trace`` returns, by the limited process.

    ``run`` is a template, its switches and literals; ``probe`` traces probes instead of texts.
    Raises as ``render_guarded``.
    """
    asked: dict[str, Any] = {
        "do": "trace",
        "run": list(run),
        "shape": list(shape),
        "contents": list(contents),
    }
    given = list(extras) if extras else None
    characters = sum(map(len, contents)) + (len(json.dumps(given)) if given else 0)
    asked |= {"probe": probe, "extras": given}
    text, spans, plain, questions = _ask(asked, run[0], where, characters)
    return text, spans, plain, questions


def trace_kept_guarded(request: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What ``harness.formats.kept.kept_trace.trace_kept`` returns, by the limited process.

    Tracing renders the conversation again for each answer, and is given that much more time. Raises
    as ``render_guarded``.
    """
    messages = request["messages"]
    words = len(json.dumps([messages, request["tools"]]))
    traced = [] if request.get("plain") else messages
    answers = sum(message["role"] == "assistant" for message in traced)
    asked = {"do": "kept", **request}
    reply: dict[str, Any] = _ask(asked, request["template"], where, words, 1 + answers)
    return reply


_HARMFUL: dict[str, str] = {}


def _ask(
    request: dict[str, Any], template: str, where: str, characters: int = 0, times: int = 1
) -> Any:
    """Send one request, which renders ``characters`` of words that number of ``times``.

    Raises HarnessError for a template that does harm, now or before.
    """
    if template not in _HARMFUL:
        request["seconds"] = SECONDS + characters * times / _CHARACTERS_A_SECOND
        request["most"] = CHARACTERS + _REPEATED * characters
        reply = _PROCESS.ask(request)
        if "harm" not in reply:
            if "fault" in reply:
                raise TemplateFaultError(*reply["fault"])
            return reply["result"]
        _HARMFUL[template] = reply["harm"]
    raise HarnessError(f"the template is refused: {_HARMFUL[template]}", where=where)


class _Process:
    """The limited process, started when it is first needed, and again after it had to be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its reply, or harm when it ends or says nothing."""
        with self._lock:
            running = self._start()
            assert running.stdin is not None and running.stdout is not None  # noqa: S101  # pipes
            timer = threading.Timer(_PATIENCE + request["seconds"], running.kill)
            timer.daemon = True
            timer.start()
            try:
                running.stdin.write(json.dumps(request) + "\n")
                running.stdin.flush()
                line = running.stdout.readline()
            except (OSError, ValueError):
                line = ""
            except BaseException:  # Ctrl-C: its reply must not be taken for that to the next
                self.end()
                raise
            finally:
                timer.cancel()
            if line.endswith("\n"):
                reply: dict[str, Any] = json.loads(line)
                return reply
            self.end()
            return {"harm": _STUCK}

    def _start(self) -> subprocess.Popen[str]:
        """The process. One that was started before a fork belongs to the parent."""
        if self._running is not None and self._owner != os.getpid():
            self._running = None
        elif self._running is not None and self._running.poll() is not None:
            self.end()
        if self._running is None:
            package = str(Path(__file__).parents[2])
            paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
            self._owner = os.getpid()
            self._running = subprocess.Popen(
                # -P: not from the present folder, where anything may be called jinja2.py
                [sys.executable, "-P", "-m", "harness.formats.guard_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us; its input ends when we do
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        return self._running

    def end(self) -> None:
        """End it. The next request starts another."""
        running, self._running = self._running, None
        if running is not None and self._owner == os.getpid():
            running.kill()
            with suppress(OSError, ValueError):  # what it did not read is lost
                running.communicate()


_PROCESS = _Process()
atexit.register(_PROCESS.end)
