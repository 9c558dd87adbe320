"""What a server tells of itself: is it there, what does it run, in which template."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Sequence
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    from openai import OpenAI

AGAIN = "what was answered is kept: the same command goes on from there"
_FIRST_TRIES = 3
_PROPS = ("model_path", "model_alias", "build_info", "chat_template")


class ServerFacts:
    """The facts of one model of a server, asked for once."""

    def __init__(self, client: OpenAI, base_url: str, model: str, patience: float) -> None:
        self.base_url = base_url
        self.model = model
        self._client = client.with_options(max_retries=0, timeout=10.0)
        self._patience = patience

    @cached_property
    def props(self) -> dict[str, Any]:
        """llama.cpp's ``/props``: template, EOS, file; empty for servers that have none.

        The first thing asked: a server that is not there is told at once, one that still loads its model is waited for.
        """
        return self._told("/props")

    @cached_property
    def identity(self) -> str:
        """A digest of what the server tells of its model and build, "" if nothing: it may be another one tomorrow.

        llama.cpp: ``/props``; vLLM: ``/version``; SGLang: ``/get_model_info``; all: the model's entry in ``/v1/models``.
        """
        facts: dict[str, Any] = {key: self.props[key] for key in _PROPS if key in self.props}
        if not facts:
            facts = {
                **self._told("/version"),
                **_without(self._told("/get_model_info"), ("weight_version",)),
            }
        entries = self._told("/v1/models").get("data")
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and (entry.get("id") == self.model or entries == [entry]):
                facts["entry"] = _without(entry, ("created", "permission", "status"))
        return (
            hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
            if facts
            else ""
        )

    def _told(self, path: str) -> dict[str, Any]:
        """A page of facts; empty where the server has none."""
        import openai

        until = time.monotonic() + self._patience
        for tries in itertools.count(1):
            try:
                told = self._client.get(self.base_url.removesuffix("/v1") + path, cast_to=object)
            except openai.APIStatusError as error:
                if error.status_code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > until:
                    return {}
                time.sleep(1.0)
            except openai.APIConnectionError as error:
                if tries == _FIRST_TRIES:
                    raise HarnessError(
                        f"the server cannot be reached: {short(str(error))}",
                        where=self.base_url,
                        hint=AGAIN,
                    ) from None
                time.sleep(0.5)
            else:
                return told if isinstance(told, dict) else {}
        raise AssertionError("counted without end")


def short(text: str) -> str:
    """A server's words in one line."""
    return " ".join(text.split())[:200]


def _without(table: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}
