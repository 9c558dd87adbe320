"""Run templates from elsewhere once in a limited process of their own before they run in ours.

Jinja's sandbox keeps a template from reaching the interpreter, but not from looping or filling the
memory. Run as a module, this file is that other process: it reads templates from standard input and
writes for each the reason to refuse it, or null, to standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from harness.errors import HarnessError

#: Processor time and characters of output that a template may use for five short messages.
SECONDS = 2.0
CHARACTERS = 100_000
#: Longest template that is read at all, in characters. Those in use have up to some 20 000.
LONGEST_TEMPLATE = 1_000_000
_MEMORY = 2 << 30
_START = 20.0
_HARM = {
    "TimeoutError": f"it takes more than {SECONDS:g} s for five short messages",
    "SecurityError": "it tries to reach the interpreter ({error})",
    "MemoryError": "it fills the memory",
    "OverflowError": "it loops too often ({error})",
    "RecursionError": "it calls itself without end",
}


def refuse_harmful(templates: Mapping[str, str]) -> None:
    """Raise HarnessError for the first of these templates (by place) that does harm.

    Harm is looping, filling the memory, writing too much, or trying to reach the interpreter.
    """
    for where, template in templates.items():
        if len(template) > LONGEST_TEMPLATE:
            raise HarnessError(
                f"a template of {len(template)} characters; at most {LONGEST_TEMPLATE} are read",
                where=where,
            )
    if not templates:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness.formats.guard"],
            input=json.dumps(list(templates.values())),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_START + 2 * SECONDS * len(templates),
            check=False,
        )
        reasons = [json.loads(line) for line in done.stdout.splitlines()]
    except subprocess.TimeoutExpired as error:
        reasons = [json.loads(line) for line in (error.stdout or b"").decode().splitlines()]
    reasons += [f"it takes more than {SECONDS:g} s or all the memory for five short messages"] * (
        len(reasons) < len(templates)
    )
    for where, reason in zip(templates, reasons, strict=False):
        if reason:
            raise HarnessError(f"the template is refused: {reason}", where=where)


def _harm(template: str) -> str | None:
    """The reason to refuse a template, or None. Refusing the conversation is no harm."""
    import signal

    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError

    from harness.formats.foreign import render_foreign

    def stop(*_args: Any) -> NoReturn:
        raise TimeoutError

    turns = [
        {"role": role, "content": f"{role} {index}"}
        for index, role in enumerate(("system", "user", "assistant", "user", "assistant"))
    ]
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, stop)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        for messages in (turns, turns[1:2]):
            text = render_foreign(
                template,
                messages,
                add_generation_prompt=len(messages) == 1,
                bos_token="<s>",
                eos_token="</s>",
            )
            if len(text) > CHARACTERS:
                return f"it writes {len(text)} characters for five short messages"
    except (TimeoutError, SecurityError, MemoryError, OverflowError, RecursionError) as error:
        return _HARM[type(error).__name__].format(error=error)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
        return None
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def _main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    except ImportError:  # Windows has no such limits; the time limit of the caller remains
        pass
    for template in json.load(sys.stdin):
        print(json.dumps(_harm(template)), flush=True)


if __name__ == "__main__":
    _main()
