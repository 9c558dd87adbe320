"""What a server says of itself: whether it is there, what it runs, and in which template."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any

from harness.backends.server_calls import Server

_MAX_CONNECTIONS = 3
_PROPS = ("model_path", "model_alias", "build_info", "chat_template")


class ServerFacts:
    """The facts of one model of a server, each asked for once.

    ``patience`` is how long to wait, in seconds, for a server that still loads its model.
    """

    def __init__(self, server: Server, model: str, patience: float) -> None:
        self.model = model
        self._server = server
        self._client = server.client.with_options(max_retries=0, timeout=10.0)
        self._patience = patience

    @cached_property
    def props(self) -> dict[str, Any]:
        """llama.cpp's ``/props``: template, EOS, file; empty for servers that have none.

        It is the first request of all, so a server that is not there is reported at once.
        """
        return self._get("/props")

    @cached_property
    def ollama(self) -> str:
        """The version of Ollama, or "" for any other server."""
        version = "" if self.props else self._get("/api/version").get("version")
        return version if isinstance(version, str) else ""

    @cached_property
    def ollama_models(self) -> dict[str, str]:
        """The digest of each of Ollama's models, by its name with its tag."""
        models = self._get("/api/tags").get("models")
        return {
            str(entry["name"]): str(entry.get("digest", ""))
            for entry in (models if isinstance(models, list) else [])
            if isinstance(entry, dict) and "name" in entry
        }

    @property
    def ollama_model(self) -> str:
        """The digest of the model in Ollama, "" if it has no model of that name."""
        known = self.ollama_models
        return known.get(self.model) or known.get(f"{self.model}:latest") or ""

    @cached_property
    def identity(self) -> str:
        """A digest of what the server says of its model and build, or "" if it says nothing.

        The server behind an address may be another one tomorrow. llama.cpp: ``/props``; Ollama:
        ``/api/tags``; vLLM: ``/version``; SGLang: ``/get_model_info``; all: the model's entry in
        ``/v1/models``.
        """
        facts: dict[str, Any] = {key: self.props[key] for key in _PROPS if key in self.props}
        if self.ollama:
            facts = {"ollama": self.ollama, "digest": self.ollama_model}
        elif not facts:
            facts = {
                **self._get("/version"),
                **_without(self._get("/get_model_info"), ("weight_version",)),
            }
        entries = self._get("/v1/models").get("data")
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and (entry.get("id") == self.model or entries == [entry]):
                facts["entry"] = _without(entry, ("created", "permission", "status"))
        if not facts:
            return ""
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _get(self, path: str) -> dict[str, Any]:
        """A page of facts; empty where the server has none."""
        import openai

        until = time.monotonic() + self._patience
        while True:
            try:
                return self._server.page(path, client=self._client, tries=_MAX_CONNECTIONS) or {}
            except openai.APIStatusError as error:
                if error.status_code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > until:
                    return {}
                time.sleep(1.0)


def _without(table: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}
