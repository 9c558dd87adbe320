"""llama.cpp: the template and the tokenizer in a GGUF file, and where an answer ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.formats.guard import TemplateFaultError, render_guarded
from harness.ship.checks.compare_runtime import Sent
from harness.ship.checks.llamacpp.gguf_metadata import GgufMetadata
from harness.ship.checks.llamacpp.llama_engines import (
    LIBRARY,
    NO_LLAMACPP,
    SERVER,
    ask_llama,
    ending,
    pick_engine,
    tokenised,
)
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts, rows_of, tools_of
from harness.ship.checks.transformers_runtime import variables_of

#: Control tokens that llama.cpp takes for an end of generation by their text.
_KNOWN_TO_LLAMA = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"),
        *("<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "<|eom_id|>", "<|return|>", "<|call|>"),
        *("<｜end▁of▁sentence｜>", "<end_of_utterance>"),
    }
)


class LlamaCppRuntime:
    """A GGUF file in llama.cpp's own server (PyPI xllamacpp), with the template in the file.

    With llama-cpp-python the template is rendered by our engine, and llama.cpp tokenises the text;
    without both there are no ids.
    """

    name = "llamacpp"

    def __init__(
        self,
        gguf: Path,
        metadata: GgufMetadata,
        trained: TrainedTexts,
        *,
        engine: str | None = None,
    ) -> None:
        self.trained = trained
        self._gguf, self._metadata = gguf, metadata
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

    def send(self) -> Iterator[Sent]:
        """What llama-server sends to the model for each prompt."""
        if self._engine == SERVER:
            for reply in self._replies[0]:
                yield (
                    Sent.refusal(reply["error"])
                    if "error" in reply
                    else Sent(reply["prompt"], tuple(reply["tokens"]))
                )
            return
        found = [self._by_rules(prompt) for prompt in self.trained.prompts]
        texts = [sent.text for sent in found]
        ids = iter(tokenised(self._gguf, texts, self._engine) if self._engine else ())
        for sent in found:
            yield replace(sent, ids=next(ids, None))

    def ends(self) -> tuple[frozenset[int], str]:
        """The tokens that end an answer, and how that was found."""
        if self._engine == SERVER:
            pairs = zip(self._tokens, self._replies[1], strict=True)
            ids = frozenset(token for token, reply in pairs if reply.get("ends"))
            return ids, "each end was forced in llama.cpp"
        if self._engine:
            return ending(self._gguf, self._tokens), "by llama.cpp's list of ends"
        known = {
            one
            for tail in self.trained.tails
            for text, one in self.trained.tokens_of(tail).items()
            if text in _KNOWN_TO_LLAMA and text in self._metadata.control
        }
        return self._metadata.end_ids | known, "by the file's metadata, not by llama.cpp"

    @cached_property
    def _tokens(self) -> tuple[int, ...]:
        """Those that may end an answer: of the trained ends, and of the file."""
        tails = self.trained.tails
        wanted = {one for tail in tails for one in self.trained.tokens_of(tail).values()}
        return tuple(sorted(wanted | self._metadata.end_ids))

    @cached_property
    def _replies(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The server's answers to all prompts and all forced ends: it loads the file once."""
        prompts = [request_of(prompt, self.trained) for prompt in self.trained.prompts]
        forced = [{"force": token} for token in self._tokens]
        replies = ask_llama(self._gguf, [*prompts, *forced])
        return replies[: len(prompts)], replies[len(prompts) :]

    def _by_rules(self, prompt: TrainedPrompt) -> Sent:
        if not self._metadata.template:
            raise HarnessError("the file's metadata has no chat template", str(self._gguf))
        conversation, tokens = prompt.conversation, self._metadata.tokens
        variables: dict[str, Any] = {**tokens, **variables_of(prompt, self.trained)}
        if tools := tools_of(conversation):
            variables["tools"] = tools
        try:
            text = render_guarded(
                self._metadata.template,
                rows_of(conversation, self.trained.chat_format),
                str(self._gguf),
                add_generation_prompt=True,
                tokens=variables,
            )
        except TemplateFaultError as fault:
            return Sent.refusal(fault)
        adds = self._metadata.adds_bos
        if adds:  # llama-server takes out the one that it would add
            text = text.removeprefix(tokens.get("bos_token", ""))
        return Sent(text, adds_bos=adds)


def request_of(prompt: TrainedPrompt, trained: TrainedTexts) -> dict[str, Any]:
    """The body of a request to llama-server's ``/apply-template``."""
    body: dict[str, Any] = {
        "messages": rows_of(prompt.conversation, trained.chat_format, as_text=True),
        "chat_template_kwargs": variables_of(prompt, trained),
    }
    if tools := tools_of(prompt.conversation):
        body["tools"] = tools
    return body
