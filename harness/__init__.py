"""Prompt-format robustness suite and training harness for local language models.

The functions here are those of ``harness.api``. They are loaded when first used, so that
``import harness`` takes milliseconds and never imports torch. It sets how long torch's waiting
threads spin, unless the user has (``harness.threads``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.threads import limit_spinning

if TYPE_CHECKING:
    from harness.api import (
        compare,
        drift,
        encode,
        evaluate,
        load_formats,
        recall,
        render,
        sweep,
        train,
    )
    from harness.errors import HarnessError
    from harness.training.callback import FormatCallback
    from harness.version import __version__

__all__ = [
    "FormatCallback",
    "HarnessError",
    "__version__",
    "compare",
    "drift",
    "encode",
    "evaluate",
    "load_formats",
    "recall",
    "render",
    "sweep",
    "train",
]

limit_spinning()  # before anything loads torch, which reads it once


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    home = {
        "FormatCallback": "harness.training.callback",
        "HarnessError": "harness.errors",
        "__version__": "harness.version",
    }
    from harness.extras import explain_missing

    with explain_missing(f"harness.{name}"):
        value = getattr(import_module(home.get(name, "harness.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
