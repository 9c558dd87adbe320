"""Keeps the libraries' progress bars, notices, questions and tracebacks off the terminal."""

from __future__ import annotations

import contextlib
import importlib
import logging as std_logging
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

from harness.errors import HarnessError
from harness.extras import missing_package, not_installed


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' loading bars and hub notices off the terminal, but not their errors."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    # these two say at import that a kernel from the hub is missing
    talkers = [std_logging.getLogger(name) for name in ("bitsandbytes", "kernels")]
    noise = [talker.level for talker in talkers]
    for talker in talkers:
        talker.setLevel(std_logging.ERROR)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft asks transformers for a property that transformers has renamed
            warnings.filterwarnings(
                "ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning
            )
            # peft sets it by each layer's type, and says so for every GPT-2
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            # an adapted head that is tied to the embedding: merging unties it
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True` and a")
            yield
    finally:
        for talker, level_before in zip(talkers, noise, strict=True):
            talker.setLevel(level_before)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def no_bars_of(module: str) -> Iterator[None]:
    """Switch off the progress bars of a module that has no setting for them."""
    home: Any = importlib.import_module(module)
    drawn = home.tqdm
    home.tqdm = partial(drawn, disable=True)
    try:
        yield
    finally:
        home.tqdm = drawn


def refusal(what: str, error: Exception, where: str) -> HarnessError:
    """The one line for what a library raised over a user's file, or for a package it misses."""
    if isinstance(error, HarnessError):
        return error
    if isinstance(error, ImportError) and (missing := missing_package(error)):
        return not_installed(missing, "loading it", where)
    if "trust_remote_code" in str(error):
        return HarnessError(
            "it needs Python code of its own, which is never run",
            where=where,
            hint="give a model that transformers knows, or serve this one and give --endpoint",
        )
    return HarnessError(f"{what}: {first_line(error)}", where=where)


def first_line(error: Exception) -> str:
    """The first line of a library's error, with the next where the first only announces it."""
    first, *others = [line.strip() for line in str(error).strip().splitlines()] or [""]
    if first.endswith(":") and others:
        return f"{first} {others[0]}"
    if isinstance(error, KeyError):
        return f"no key {first}"
    return first or type(error).__name__
