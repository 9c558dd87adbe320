"""A model of a running Ollama, by its own API: ``/v1/completions`` would apply its template.

Ollama's OpenAI-compatible endpoint takes a prompt for a user's message and puts the model's
template around it, so a format that we rendered would be measured inside another one.
``/api/generate`` with ``raw`` takes the text as it is (``FromCompleteRequest`` and
``GenerateHandler`` in Ollama's source). A Modelfile's own sampling settings are overridden, because
a greedy answer would otherwise be penalised for repetition.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from harness.backends.openai import OpenAIBackend
from harness.backends.openai import open_backend as open_server
from harness.backends.protocol import ModelSpec
from harness.backends.server_calls import Server
from harness.errors import HarnessError, nearest
from harness.models.source import OLLAMA

DEFAULT_PORT = 11434
_DEFAULT_PORTS = {"http": 80, "https": 443}


def open_backend(
    model: ModelSpec, *, chat: bool = False, concurrency: int = 8, retries: int = 8
) -> OpenAIBackend:
    """The model ``ollama/NAME`` of the Ollama at OLLAMA_HOST, by default on this machine.

    Raises HarnessError where none runs there, or where it does not have the model.
    """
    name, url = model.model.removeprefix(OLLAMA), host(os.environ.get("OLLAMA_HOST", ""))
    spec = ModelSpec(name, model.adapter, model.dtype, model.quantisation)
    backend = open_server(
        spec, url=f"{url}/v1", chat=chat, concurrency=concurrency, retries=retries
    )
    try:
        there = bool(backend.facts.ollama)
    except HarnessError:
        there = False
    if not there:
        raise _none_there(url)
    if not backend.facts.ollama_model:
        known = backend.facts.ollama_models
        hint = f"ollama pull {name}" + (f"; {nearest(name, known)}" if known else "")
        raise HarnessError(f"Ollama has no model {name!r}", where=url, hint=hint)
    return backend


def modelfile(name: str) -> str:
    """The Modelfile of the model ``ollama/NAME``: its template, system prompt and stops.

    Raises HarnessError where no Ollama answers, or where it does not have the model.
    """
    import openai

    model, url = name.removeprefix(OLLAMA), host(os.environ.get("OLLAMA_HOST", ""))
    page = None
    try:
        server = Server(f"{url}/v1", api_key="none", timeout=10.0, retries=0)
        page = server.page("/api/show", {"model": model})
    except openai.NotFoundError:
        hint = f"ollama pull {model}"
        raise HarnessError(f"Ollama has no model {model!r}", where=url, hint=hint) from None
    except (openai.APIError, HarnessError):  # another server, or none
        pass
    text = (page or {}).get("modelfile")
    if not isinstance(text, str):
        raise _none_there(url)
    return text


def _none_there(url: str) -> HarnessError:
    hint = "start it (ollama serve), or set OLLAMA_HOST"
    return HarnessError("no Ollama runs there", where=url, hint=hint)


def host(setting: str) -> str:
    """The address that OLLAMA_HOST names, read as Ollama does: ``[scheme://]host[:port]``."""
    setting = setting.strip().strip("\"'")
    scheme, given, rest = setting.rpartition("://")
    parts = urlsplit(f"{scheme or 'http'}://{rest}")
    try:
        port = parts.port
    except ValueError:  # no number, as in Ollama
        port = None
    port = port or (_DEFAULT_PORTS.get(scheme, DEFAULT_PORT) if given else DEFAULT_PORT)
    name = parts.hostname or "localhost"
    # a server listens on all addresses; a client connects to one
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(name, name)  # noqa: S104
    address = f"[{name}]" if ":" in name else name
    return f"{scheme or 'http'}://{address}:{port}{parts.path.rstrip('/')}"
