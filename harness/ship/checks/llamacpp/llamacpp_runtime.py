"""llama.cpp: the template and the tokenizer in a GGUF file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.formats.exchange.chat_templates import FoundTemplate, template_of_gguf
from harness.formats.guard import TemplateFaultError, render_guarded
from harness.ship.checks.compare_runtime import Sent
from harness.ship.checks.llamacpp.llama_engines import (
    LIBRARY,
    NO_LLAMACPP,
    SERVER,
    ask_llama,
    pick_engine,
    tokenised,
)
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts, rows_of, tools_of
from harness.ship.checks.transformers_runtime import variables_of


class LlamaCppRuntime:
    """A GGUF file in llama.cpp's own server (PyPI xllamacpp), with the template in the file.

    With llama-cpp-python the template is rendered by our engine, and llama.cpp tokenises the text;
    without both there are no ids.
    """

    name = "llamacpp"

    def __init__(self, gguf: Path, trained: TrainedTexts, *, engine: str | None = None) -> None:
        self.gguf = gguf
        self._trained = trained
        self._engine = pick_engine(engine)

    @property
    def how(self) -> str:
        if self._engine == SERVER:
            return "rendered and tokenised by llama.cpp's own server"
        rendered = "the file's template rendered by our engine, not by llama.cpp"
        return f"{rendered}, which tokenises it" if self._engine == LIBRARY else rendered

    @property
    def frozen(self) -> bool:
        return self._engine != SERVER

    @property
    def no_ids(self) -> str:
        return "" if self._engine else NO_LLAMACPP

    @cached_property
    def found(self) -> FoundTemplate:
        """The template and the facts of the tokenizer. Raises HarnessError where there is none."""
        return template_of_gguf(self.gguf, None)

    def send(self, prompts: Sequence[TrainedPrompt]) -> Iterator[Sent]:
        """What is sent to the model for each prompt."""
        if self._engine == SERVER:
            requests = [request_of(prompt, self._trained) for prompt in prompts]
            for reply in ask_llama(self.gguf, requests):
                refused = str(reply.get("error", ""))
                yield (
                    Sent(refused=refused)
                    if refused
                    else Sent(reply["prompt"], tuple(reply["tokens"]))
                )
            return
        found = [self._by_rules(prompt) for prompt in prompts]
        texts = [sent.text for sent in found if sent.text is not None]
        ids = iter(tokenised(self.gguf, texts, self._engine) if self._engine else ())
        for sent in found:
            yield sent if sent.text is None else replace(sent, ids=next(ids, None))

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
