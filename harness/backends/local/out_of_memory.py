"""What happens where memory ends: a smaller pass is tried, and one line says what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from harness.errors import HarnessError
from harness.models import LoadedModel
from harness.models.device import describe_memory, is_out_of_memory, release

P = ParamSpec("P")
T = TypeVar("T")


def attempt(
    loaded: LoadedModel, run: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """What ``run`` returns, or None where memory ended. Every other error passes through.

    The error and its traceback, which hold the tensors of the failed pass, are dropped, and what
    they held is given back before this returns.
    """
    try:
        return run(*args, **kwargs)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    release(loaded.device)
    return None


def nothing_fits(loaded: LoadedModel, what: str, lower: str) -> HarnessError:
    """The error where not even ``what`` fits. ``lower`` names the settings to lower."""
    smaller = [lower] if lower else []
    if not loaded.quantisation:
        smaller.append("--load-in-4bit")
        if loaded.dtype == "float32":
            smaller.append("--dtype bfloat16")
    if loaded.device != "cpu":
        smaller.append("--device cpu")
    return HarnessError(
        f"out of memory: {what} does not fit ({describe_memory(loaded.device)})",
        where=loaded.name,
        hint=f"try {', '.join(smaller)}; what is stored stays" if smaller else "",
    )
