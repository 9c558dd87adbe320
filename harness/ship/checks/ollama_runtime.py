"""Ollama: the template of a Modelfile, evaluated by a running Ollama or by our own rules.

Ollama says what it would send where a request has ``_debug_render_only`` (0.11.5 and later). It
tokenises with llama.cpp's tokenizer, which puts a BOS before the text if the GGUF file says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.conversation import Message
from harness.errors import HarnessError
from harness.formats.exchange.programs.go_template import GoFaultError
from harness.formats.exchange.programs.ollama_reading import (
    Modelfile,
    ollama_prompts,
    read_modelfile,
)
from harness.ship.checks.compare_runtime import Sent
from harness.ship.checks.llamacpp.gguf_metadata import GgufMetadata
from harness.ship.checks.llamacpp.llama_engines import NO_LLAMACPP, pick_engine, tokenised
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts, rows_of, tools_of


class OllamaRuntime:
    """A Modelfile rendered by our rules, or a model of a running Ollama.

    ``metadata`` is that of the GGUF file: it says whether a BOS is added. ``gguf``, the file
    itself, gives the ids where llama.cpp is installed. ``pages`` and ``model`` are those of a
    running Ollama.
    """

    name = "ollama"
    frozen = False

    def __init__(
        self,
        modelfile: str,
        trained: TrainedTexts,
        *,
        metadata: GgufMetadata | None = None,
        gguf: Path | None = None,
        pages: ServerPages | None = None,
        model: str = "",
        engine: str | None = None,
    ) -> None:
        self.trained = trained
        self._modelfile, self._pages, self._model = modelfile, pages, model
        self._gguf, self._engine = gguf, pick_engine(engine)
        self._adds_bos = metadata.adds_bos if metadata else None

    @property
    def how(self) -> str:
        if self._pages is not None:
            return "rendered by the running Ollama"
        return "the Modelfile's template evaluated by our rules, not by Ollama"

    @property
    def no_ids(self) -> str:
        if self._gguf is None:
            return "Ollama gives no ids, and no GGUF file is given"
        return "" if self._engine else NO_LLAMACPP

    def send(self) -> Iterator[Sent]:
        """What Ollama sends. Raises HarnessError for a Modelfile without TEMPLATE, or one that our
        rules cannot evaluate.
        """
        prompts = self.trained.prompts
        if self._pages is None:
            modelfile = read_modelfile(self._modelfile)
            write = ollama_prompts(modelfile.template, modelfile.system)
            found = [_by_rules(prompt, modelfile, write) for prompt in prompts]
        else:
            found = [self._asked(prompt, self._pages) for prompt in prompts]
        texts = [sent.text for sent in found]
        gguf = self._gguf if self._engine else None
        ids = iter(tokenised(gguf, texts, self._engine) if gguf else ())
        for sent in found:
            yield replace(sent, ids=next(ids, None), adds_bos=self._adds_bos)

    def _asked(self, prompt: TrainedPrompt, pages: ServerPages) -> Sent:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": _messages(prompt, self.trained),
            "stream": False,
            "truncate": False,
            "_debug_render_only": True,
        }
        if tools := tools_of(prompt.conversation):
            body["tools"] = tools
        page = pages.post("/api/chat", body)
        if "does not support tools" in str(page.get("error", "")):
            return Sent(unsupported="tools")
        if "error" in page:
            return Sent.refusal(page["error"])
        shown = page.get("_debug_info")
        text = shown.get("rendered_template") if isinstance(shown, dict) else None
        if not isinstance(text, str):
            raise HarnessError(
                "this Ollama does not report the prompt that it sends",
                where=pages.url,
                hint="update it to 0.11.5 or later, or leave out --server",
            )
        return Sent(text)


def _messages(prompt: TrainedPrompt, trained: TrainedTexts) -> list[dict[str, Any]]:
    """The messages in the words of Ollama's own API, whose contents are always texts."""
    messages = prompt.conversation.messages
    rows = rows_of(prompt.conversation, trained.chat_format)
    for row, message in zip(rows, messages, strict=True):
        row["content"] = message.content
        if "reasoning_content" in row:
            row["thinking"] = row.pop("reasoning_content")
        if message.role == "tool" and message.name:
            row["tool_name"] = row.pop("name")
        for call, given in zip(row.get("tool_calls", ()), message.tool_calls, strict=True):
            call["function"]["arguments"] = given.values()
    return rows


def _by_rules(
    prompt: TrainedPrompt, modelfile: Modelfile, write: Callable[[Sequence[Message]], str]
) -> Sent:
    conversation = prompt.conversation
    if conversation.tools or any(message.tool_calls for message in conversation.messages):
        has_tools = ".Tools" in modelfile.template
        return Sent(unsupported="tools that our rules evaluate" if has_tools else "tools")
    try:
        return Sent(write(conversation.messages))
    except GoFaultError as fault:
        return Sent.refusal(fault.message)
