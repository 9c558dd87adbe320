"""The backends by name: built in, of installed packages, or in a file of the user's."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from harness.backends.protocol import Backend, ModelSpec
from harness.errors import HarnessError, nearest
from harness.extras import EXTRAS, is_installed
from harness.models.source import OLLAMA

AUTO = "auto"
"""The engine where the user names none: ``backend_for`` chooses by the model."""
BACKENDS = {
    "llamacpp": "harness.backends.llamacpp:open_backend",
    "local": "harness.backends.local.backend:open_backend",
    "ollama": "harness.backends.ollama_server:open_backend",
    "openai": "harness.backends.openai:open_backend",
    "ray": "harness.backends.ray:open_backend",
}
"""Name → ``module:function``."""
ENTRY_POINTS = "formatproof.backends"
"""The group of entry points by which an installed package adds a backend."""

#: The backends that run a model themselves, and what to set there.
_ELSEWHERE = {
    "llamacpp": "give --engine-option gpu_layers=N or --engine-option budget=N",
    "ollama": "set it in Ollama",
    "openai": "set it on the server",
}

_LLAMA_CPP = "llama_cpp"
Opener = Callable[..., Backend]


def open_backend(name: str, model: ModelSpec, options: Mapping[str, Any]) -> Backend:
    """Call the function behind ``name`` with the model and with the options as keyword arguments.

    ``auto`` is the backend that fits the model; where that is llama.cpp and its package is missing,
    the local backend dequantises the file, and a line on standard error says so.

    Raises HarnessError for an unknown name, for an option that the function does not take and for
    one that it needs.
    """
    chosen = backend_for(model) if name == AUTO else name
    missing = name == AUTO and chosen == "llamacpp" and not is_installed(_LLAMA_CPP)
    name = "local" if missing else chosen
    opener = find_backend(name)
    _refuse_without_effect(name, model)
    try:
        inspect.signature(opener).bind(model, **options)
    except TypeError as error:
        _, *known = inspect.signature(opener).parameters
        raise HarnessError(
            f"engine {name}: {error}", hint=f"its options: {', '.join(known) or 'none'}"
        ) from None
    backend = opener(model, **options)
    if missing:
        print(
            f"note: {model.model} is dequantised; pip install 'formatproof[{EXTRAS[_LLAMA_CPP]}]'"
            " runs it as it is, through llama.cpp",
            file=sys.stderr,
        )
    return backend


def _refuse_without_effect(name: str, model: ModelSpec) -> None:
    """Raise HarnessError where the model runs elsewhere than where these settings reach."""
    if name not in _ELSEWHERE:
        return
    default = ModelSpec(model.model)
    for setting in ("device", "device_map", "batch_size", "max_tokens_per_batch"):
        if getattr(model, setting) != getattr(default, setting):
            raise HarnessError(
                f"--{setting.replace('_', '-')} has no effect with engine {name}",
                hint=_ELSEWHERE[name],
            )


def backend_for(model: ModelSpec) -> str:
    """The backend for a model when the user names none.

    ``ollama/NAME`` runs in Ollama. A GGUF file runs through llama.cpp as it is stored, unless the
    user asks for an adapter of peft, a dtype or a quantisation: only the local backend has those.
    """
    if model.model.startswith(OLLAMA):
        return "ollama"
    local = model.adapter or model.quantisation or model.dtype != "auto"
    if local or not (model.model.endswith(".gguf") and Path(model.model).expanduser().is_file()):
        return "local"
    return "llamacpp"


@functools.cache
def find_backend(name: str) -> Opener:
    """The function that opens a backend: by its name, or ``open_backend`` of a file (FILE.py)."""
    if name.endswith(".py"):
        return _from_file(Path(name))
    points = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    known = {**points, **BACKENDS}
    if name not in known:
        raise HarnessError(
            f"unknown engine {name!r}", hint=nearest(name, known) + ", or give a FILE.py"
        )
    module, function = known[name].split(":")
    try:
        opener: Opener = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise HarnessError(f"cannot load engine {name}: {error}", where=known[name]) from error
    return opener


def _from_file(path: Path) -> Opener:
    spec = importlib.util.spec_from_file_location(f"formatproof_backend_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise HarnessError("no such Python file", where=str(path))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    opener: Opener | None = getattr(module, "open_backend", None)
    if opener is None:
        raise HarnessError(
            "defines no function open_backend",
            where=str(path),
            hint="docs/add-a-backend.md shows one",
        )
    return opener
