"""Templates from elsewhere run once in a process of their own, with limits, before they run in ours.

Jinja's sandbox keeps a template from reaching the interpreter; it does not keep it from looping or from
filling the memory. Run as a module, this file is that other process: templates in on standard input,
what is wrong with each on standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from harness.errors import HarnessError

#: Seconds of the processor that one template may take for a conversation of five short messages, and characters that it may write.
SECONDS = 2.0
CHARACTERS = 100_000
#: Characters of the longest template that is read at all. The longest that people use hold some 20 000.
LONGEST_TEMPLATE = 1_000_000
_MEMORY = 2 << 30
_START = 20.0
_HARM = {
    "Late": f"it takes more than {SECONDS:g} s for five short messages",
    "SecurityError": "it tries to reach the interpreter ({error})",
    "MemoryError": "it fills the memory",
    "OverflowError": "it loops too often ({error})",
    "RecursionError": "it calls itself without end",
}


def refuse_harmful(templates: Mapping[str, str]) -> None:
    """Raise HarnessError for the first of these templates (by place) that loops, fills the memory or tries to reach the interpreter."""
    for where, template in templates.items():
        if len(template) > LONGEST_TEMPLATE:
            raise HarnessError(
                f"a template of {len(template)} characters; at most {LONGEST_TEMPLATE} are read",
                where=where,
            )
    if not templates:
        return
    try:
        found = subprocess.run(  # our own interpreter and module; the template arrives on standard input
            [sys.executable, "-m", "harness.formats.guard"],
            input=json.dumps(list(templates.values())),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_START + 2 * SECONDS * len(templates),
            check=False,
        )
        reasons = [json.loads(line) for line in found.stdout.splitlines()]
    except subprocess.TimeoutExpired as late:
        reasons = [json.loads(line) for line in (late.stdout or b"").decode().splitlines()]
    reasons += [f"it takes more than {SECONDS:g} s or all the memory for five short messages"] * (
        len(reasons) < len(templates)
    )
    for where, reason in zip(templates, reasons, strict=False):
        if reason:
            raise HarnessError(f"the template is refused: {reason}", where=where)


def _judge(template: str) -> str | None:
    """What is wrong with a template, or None. A template that merely refuses the conversation is not this room's matter."""
    import signal

    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError

    from harness.formats.foreign import render_foreign

    class Late(Exception):
        """The time is over."""

    def stop(*_args: Any) -> NoReturn:
        raise Late

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
    except (Late, SecurityError, MemoryError, OverflowError, RecursionError) as error:
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
        print(json.dumps(_judge(template)), flush=True)


if __name__ == "__main__":
    _main()
