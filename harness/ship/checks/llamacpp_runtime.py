"""llama.cpp: the template and the tokenizer in a GGUF file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.extras import is_installed
from harness.formats.exchange.chat_templates import FoundTemplate, template_of_gguf
from harness.formats.guard import TemplateFaultError, render_guarded
from harness.ship.checks.compare_runtime import Sent
from harness.ship.checks.text_kinds import without_bos
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts, rows_of, tools_of
from harness.ship.checks.transformers_runtime import variables_of

_LIMIT_S = 900
NO_LLAMACPP = "llama.cpp is not installed here: pip install xllamacpp"


class LlamaCppRuntime:
    """A GGUF file in llama.cpp's own server (PyPI xllamacpp), with the template in the file.

    Without that package the template is rendered by our engine and there are no ids.
    """

    name = "llamacpp"

    def __init__(self, gguf: Path, trained: TrainedTexts, *, engine: bool | None = None) -> None:
        self.gguf = gguf
        self._trained = trained
        self._engine = is_installed("xllamacpp") if engine is None else engine

    @property
    def how(self) -> str:
        return (
            "rendered and tokenised by llama.cpp's own server"
            if self._engine
            else "the file's template rendered by our engine, not by llama.cpp"
        )

    @property
    def frozen(self) -> bool:
        return not self._engine

    @property
    def no_ids(self) -> str:
        return "" if self._engine else NO_LLAMACPP

    @cached_property
    def found(self) -> FoundTemplate:
        """The template and the facts of the tokenizer. Raises HarnessError where there is none."""
        return template_of_gguf(self.gguf, None)

    def send(self, prompts: Sequence[TrainedPrompt]) -> Iterator[Sent]:
        """What the server sends to the model for each prompt."""
        if not self._engine:
            yield from map(self._by_rules, prompts)
            return
        requests = [request_of(prompt, self._trained) for prompt in prompts]
        for reply in ask_llama(self.gguf, requests):
            if "error" in reply:
                yield Sent(refused=str(reply["error"]))
            else:
                yield Sent(reply["prompt"], tuple(reply["tokens"]))

    def _by_rules(self, prompt: TrainedPrompt) -> Sent:
        conversation = prompt.conversation
        variables: dict[str, Any] = {**self.found.tokens, **variables_of(prompt, self._trained)}
        if tools := tools_of(conversation):
            variables["tools"] = tools
        try:
            text = render_guarded(
                self.found.text,
                rows_of(conversation, self._trained.chat_format),
                str(self.gguf),
                add_generation_prompt=True,
                tokens=variables,
            )
        except TemplateFaultError as fault:
            return Sent(refused=str(fault))
        bos = self.found.tokens.get("bos_token", "")
        if self.found.adds_bos and bos and text.startswith(bos):
            text = text.removeprefix(bos)  # llama-server takes out the one that it would add
        return Sent(text, adds_bos=self.found.adds_bos)


def request_of(prompt: TrainedPrompt, trained: TrainedTexts) -> dict[str, Any]:
    """The body of a request to llama-server's ``/apply-template``."""
    body: dict[str, Any] = {
        "messages": rows_of(prompt.conversation, trained.chat_format, as_text=True),
        "chat_template_kwargs": variables_of(prompt, trained),
    }
    if tools := tools_of(prompt.conversation):
        body["tools"] = tools
    return body


def ask_llama(
    gguf: Path, requests: Sequence[Mapping[str, Any]], *, template: str | None = None
) -> list[dict[str, Any]]:
    """The answers of ``llama_process`` to these requests.

    Raises HarnessError where llama.cpp cannot load the file.
    """
    package = str(Path(__file__).parents[3])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "harness.ship.checks.llama_process"],
            check=False,
            input=json.dumps({"model": str(gguf), "template": template, "requests": [*requests]}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_LIMIT_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(
            f"llama.cpp does not answer within {_LIMIT_S} s", where=str(gguf)
        ) from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if len(lines) != len(requests):
        words = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in words if "error" in line.lower()), words[-1] if words else "no reason"
        )
        raise HarnessError(f"llama.cpp cannot load the file: {reason[:300]}", where=str(gguf))
    return [json.loads(line) for line in lines]


def count_bos(text: str, bos: str, *, adds_bos: bool) -> int:
    """How many BOS a text begins with once its tokenizer has added its own."""
    return without_bos(text, bos)[1] + adds_bos
