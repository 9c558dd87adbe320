"""Packages that the light installation leaves out, and the extra that brings each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from harness.errors import HarnessError

EXTRAS = {
    "accelerate": "local",
    "bitsandbytes": "qlora",
    "datasets": "hub",
    "gguf": "gguf",
    "huggingface_hub": "local",
    "pandas": "pandas",
    "peft": "local",
    "pyarrow": "parquet",
    "pytest": "gate",
    "ray": "ray",
    "safetensors": "local",
    "tensorboard": "tensorboard",
    "tokenizers": "local",
    "torch": "local",
    "trackio": "trackio",
    "transformers": "local",
    "wandb": "wandb",
}
"""Package → the extra of formatproof that installs it."""


def is_installed(package: str) -> bool:
    """Whether ``import package`` would find something. Imports nothing."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def require(package: str, by: str, where: str = "") -> None:
    """Raise the HarnessError that says how to install ``package``, unless it is there."""
    if not is_installed(package):
        raise _missing(package, by, where)


@contextmanager
def explain_missing(by: str) -> Iterator[None]:
    """Turn the import error of an optional package into one line: who needs it, how to install it.

    A module missing inside an installed package is a bug, and keeps its traceback.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS or is_installed(package):
            raise
        raise _missing(package, by) from None


def _missing(package: str, by: str, where: str = "") -> HarnessError:
    hint = f"pip install 'formatproof[{EXTRAS[package]}]'"
    return HarnessError(f"{by} needs {package}", where=where, hint=hint)
