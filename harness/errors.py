"""The one error that a user sees, and the exit codes of the command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

EXIT_OK = 0
EXIT_FINDINGS = 1
EXIT_USAGE = 2
EXIT_BUG = 3
EXIT_INTERRUPTED = 130


class HarnessError(Exception):
    """A mistake in the user's input: what is wrong, where it is, and what to do next.

    Printed as one line without a traceback, exit code 2. Our own bugs are never wrapped in it, so
    that they keep their traceback.
    """

    def __init__(self, message: str, where: str = "", hint: str = "") -> None:
        self.message = message
        self.where = where
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" — {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"


def validation_error(
    error: ValidationError, where: str, hint: str = "", known: Iterable[str] = ()
) -> HarnessError:
    """The first mistake that a pydantic model found in a file: ``file: key: what is wrong``.

    For an unknown key the hint offers the nearest of the ``known`` ones.
    """
    first, *others = error.errors(include_url=False)
    loc = [step for step in first["loc"] if step != "[key]"]  # pydantic's mark of a table's key
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    key = "".join(steps).removeprefix(".")
    if first["type"] == "missing":
        message = "missing"
    elif first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        message, hint = "unknown key", nearest(str(first["loc"][-1]), known) or hint
    else:
        message = first["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "expected", 1)
        if first["type"] != "value_error":
            message += f", not {repr(first['input'])[:80]}"
    if others:
        message += f" (and {len(others)} more)"
    return HarnessError(f"{key}: {message}" if key else message, where, hint)


def nearest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """A hint that offers the known names most like ``name``.

    If none is similar: ``otherwise``, by default the first of the known names.
    """
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.51)
    if close:
        return "did you mean " + ", ".join(close) + "?"
    if otherwise is not None:
        return otherwise
    return (
        f"known: {', '.join(choices[:12])}{', …' if len(choices) > 12 else ''}" if choices else ""
    )
