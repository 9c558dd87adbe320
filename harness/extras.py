"""Packages that the light installation leaves out, and the extra that brings each of them."""

from __future__ import annotations

import re
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
    "llama_cpp": "llamacpp",
    "pandas": "pandas",
    "peft": "local",
    "pyarrow": "parquet",
    "pytest": "gate",
    "ray": "ray",
    "safetensors": "local",
    "sentencepiece": "ship",
    "tensorboard": "tensorboard",
    "tokenizers": "local",
    "torch": "local",
    "trackio": "trackio",
    "transformers": "local",
    "wandb": "wandb",
    "yaml": "local",
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
        raise not_installed(package, by, where)


@contextmanager
def explain_missing(by: str) -> Iterator[None]:
    """Turn the import error of an optional package into one line: who needs it, how to install it.

    A module missing inside an installed package is a bug, and keeps its traceback.
    """
    try:
        yield
    except ImportError as error:
        package = missing_package(error)
        if not package:
            raise
        raise not_installed(package, by) from None


def missing_package(error: ImportError) -> str:
    """The optional package that an import error is about, or "" where it is about another thing.

    transformers raises a plain ImportError whose text names what to install.
    """
    name = (error.name or "").partition(".")[0]
    words = [name] if isinstance(error, ModuleNotFoundError) else re.findall(r"[\w-]+", str(error))
    return next((word for word in words if word in EXTRAS and not is_installed(word)), "")


def not_installed(package: str, by: str, where: str = "") -> HarnessError:
    """The error that says who needs a package, and how to install it."""
    hint = f"pip install 'formatproof[{EXTRAS[package]}]'"
    return HarnessError(f"{by} needs {package}", where=where, hint=hint)
