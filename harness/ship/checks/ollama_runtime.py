"""Ollama: the template of a Modelfile, evaluated by a running Ollama or by our own rules.

Ollama says what it would send where a request has ``_debug_render_only`` (0.11.5 and later). It
tokenises with llama.cpp's tokenizer, which puts a BOS before the text if the GGUF file says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.conversation import Message
from harness.errors import HarnessError
from harness.files import read_text
from harness.formats.exchange.chat_templates import template_of_gguf
from harness.formats.exchange.programs.go_template import GoFaultError
from harness.formats.exchange.programs.ollama_reading import (
    Modelfile,
    ollama_prompts,
    read_modelfile,
)
from harness.ship.checks.compare_runtime import Sent
from harness.ship.checks.llamacpp.llama_engines import NO_LLAMACPP, pick_engine, tokenised
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts, rows_of, tools_of


@dataclass(frozen=True)
class _Gguf:
    path: Path
    adds_bos: bool | None


class OllamaRuntime:
    """A Modelfile by rules, or a model of a running Ollama.

    ``gguf`` is the file that the Modelfile names: it says whether a BOS is added, and gives the ids
    where llama.cpp is installed. ``pages`` and ``model`` are those of a running Ollama.
    """

    name = "ollama"
    frozen = False

    def __init__(
        self,
        modelfile: Path | str,
        trained: TrainedTexts,
        *,
        gguf: Path | None = None,
        pages: ServerPages | None = None,
        model: str = "",
        engine: str | None = None,
    ) -> None:
        """``modelfile`` is a file, or the text that a running Ollama gives."""
        self._text = modelfile if isinstance(modelfile, str) else read_text(modelfile)
        self._trained, self._pages, self._model = trained, pages, model
        self._engine = pick_engine(engine) if gguf is not None else ""
        adds = template_of_gguf(gguf, None).adds_bos if gguf is not None else None
        self._gguf = None if gguf is None else _Gguf(gguf, adds)

    @property
    def how(self) -> str:
        if self._pages is not None:
            return "rendered by the running Ollama"
        return "the Modelfile's template evaluated by our rules, not by Ollama"

    @property
    def no_ids(self) -> str:
        if self._engine:
            return ""
        if self._gguf is None:
            return "Ollama gives no ids, and no GGUF file is given"
        return NO_LLAMACPP

    def send(self, prompts: Sequence[TrainedPrompt]) -> Iterator[Sent]:
        """What Ollama sends. Raises HarnessError for a Modelfile without TEMPLATE, or one that our
        rules cannot evaluate.
        """
        texts = [self._asked(prompt) if self._pages else None for prompt in prompts]
        if self._pages is None:
            modelfile = read_modelfile(self._text)
            write = ollama_prompts(modelfile.template, modelfile.system)
            texts = [_by_rules(prompt, modelfile, write) for prompt in prompts]
        ids = self._ids([sent.text for sent in texts if sent and sent.text is not None])
        adds = self._gguf.adds_bos if self._gguf else None
        for sent in texts:
            assert sent is not None  # noqa: S101  # one of the two ways has filled it
            if sent.text is None:
                yield sent
            else:
                yield Sent(sent.text, next(ids, None), adds)

    def _asked(self, prompt: TrainedPrompt) -> Sent:
        assert self._pages is not None  # noqa: S101  # the caller looked
        body: dict[str, Any] = {
            "model": self._model,
            "messages": rows_of(prompt.conversation, self._trained.chat_format),
            "stream": False,
            "truncate": False,
            "_debug_render_only": True,
        }
        for row in body["messages"]:
            if "reasoning_content" in row:
                row["thinking"] = row.pop("reasoning_content")
        if tools := tools_of(prompt.conversation):
            body["tools"] = tools
        page = self._pages.post("/api/chat", body)
        if "does not support tools" in str(page.get("error", "")):
            return Sent(unsupported="tools")
        if "error" in page:
            return Sent(refused=str(page["error"]))
        shown = page.get("_debug_info")
        text = shown.get("rendered_template") if isinstance(shown, dict) else None
        if not isinstance(text, str):
            raise HarnessError(
                "this Ollama does not say what it sends",
                where=self._pages.url,
                hint="update it to 0.11.5 or later, or leave out --server",
            )
        return Sent(text)

    def _ids(self, texts: Sequence[str]) -> Iterator[tuple[int, ...]]:
        if not self._engine or self._gguf is None or not texts:
            return
        yield from tokenised(self._gguf.path, texts, self._engine)


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
        return Sent(refused=fault.message)
