"""Running servers: what they say they send to the model.

llama-server has ``/apply-template`` and ``/tokenize``. vLLM tokenises messages with its template
(``/tokenize``), and gives the text back (``/detokenize``). SGLang returns the ids of a prompt with
an answer (``return_prompt_token_ids``, from 0.5.13). text-generation-webui has pages of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError
from harness.ship.checks.compare_runtime import Sent
from harness.ship.checks.id_kinds import without_bos_ids
from harness.ship.checks.llamacpp.llamacpp_runtime import request_of
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts

LLAMA, VLLM, SGLANG, WEBUI, OLLAMA = "llama-server", "vllm", "sglang", "webui", "ollama"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Which program answers, the model's name there, its context and its default sampling."""

    kind: str
    model: str
    context: int | None = None
    sampling: tuple[tuple[str, float], ...] = ()


def served_model(pages: ServerPages, model: str = "") -> ServedModel:
    """Find out which program serves. ``model`` is one of its models; by default the first.

    Raises HarnessError for an unknown program, and for a model that the server does not have.
    """
    defaults = pages.get("/props").get("default_generation_settings")
    if isinstance(defaults, dict):
        params = defaults.get("params")
        known = params.items() if isinstance(params, dict) else ()
        numbers = [(key, one) for key, one in known if isinstance(one, int | float)]
        return ServedModel(LLAMA, model, _int(defaults.get("n_ctx")), tuple(numbers))
    entry = _entry(pages, model)
    name = str(entry.get("id", model))
    if pages.get("/model_info") or pages.get("/get_model_info"):
        info = pages.get("/server_info") or pages.get("/get_server_info")
        context = _int(info.get("context_length")) or _int(entry.get("max_model_len"))
        return ServedModel(SGLANG, name, context)
    if pages.get("/v1/internal/model/info"):
        return ServedModel(WEBUI, name)
    if pages.get("/version"):
        return ServedModel(VLLM, name, _int(entry.get("max_model_len")))
    if pages.get("/api/version"):
        return ServedModel(OLLAMA, name)
    raise HarnessError(
        "the server does not report which program it is",
        where=pages.url,
        hint="llama-server, vLLM, SGLang, Ollama and text-generation-webui can be checked",
    )


def _entry(pages: ServerPages, model: str) -> dict[str, Any]:
    """What the server says of a model. Ollama lists ``tuned`` as ``tuned:latest``."""
    entries = pages.get("/v1/models").get("data")
    rows = [row for row in entries if isinstance(row, dict)] if isinstance(entries, list) else []
    named = [row for row in rows if row.get("id") in (model, f"{model}:latest")]
    if model and rows and not named:
        known = ", ".join(str(row.get("id")) for row in rows)
        raise HarnessError(f"the server has no model {model!r}", where=pages.url, hint=known)
    return next(iter(named or rows), {})


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


class ServerRuntime:
    """A running llama-server, vLLM, SGLang or text-generation-webui."""

    frozen = False

    def __init__(self, pages: ServerPages, served: ServedModel, trained: TrainedTexts) -> None:
        self._pages, self._served, self.trained = pages, served, trained
        self._ask = {
            LLAMA: self._llama,
            VLLM: self._vllm,
            SGLANG: self._sglang,
            WEBUI: self._webui,
        }[served.kind]

    @property
    def name(self) -> str:
        return "llamacpp" if self._served.kind == LLAMA else self._served.kind

    @property
    def how(self) -> str:
        return f"as the running {self._served.kind} says"

    @property
    def no_ids(self) -> str:
        return ""

    def send(self) -> Iterator[Sent]:
        """What the server sends for each prompt.

        Raises HarnessError for a server that cannot be reached, or does not say what it sends.
        """
        return map(self._ask, self.trained.prompts)

    def _llama(self, prompt: TrainedPrompt) -> Sent:
        page = self._post("/apply-template", request_of(prompt, self.trained))
        return self._with_ids(page, "/tokenize", "content", add_special=True, parse_special=True)

    def _vllm(self, prompt: TrainedPrompt) -> Sent:
        body = {**self._messages(prompt), "add_generation_prompt": True}
        return self._with_text(prompt, self._post("/tokenize", body), "tokens")

    def _sglang(self, prompt: TrainedPrompt) -> Sent:
        body = {**self._messages(prompt), "max_tokens": 1, "temperature": 0}
        page = self._post("/v1/chat/completions", {**body, "return_prompt_token_ids": True})
        choices = page.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else page
        return self._with_text(prompt, first, "prompt_token_ids")

    def _webui(self, prompt: TrainedPrompt) -> Sent:
        body = {"messages": self._messages(prompt)["messages"], "mode": "instruct"}
        page = self._post("/v1/internal/chat-prompt", body)
        return self._with_ids(page, "/v1/internal/encode", "text")

    def _messages(self, prompt: TrainedPrompt) -> dict[str, Any]:
        body = request_of(prompt, self.trained)
        if not body["chat_template_kwargs"]:
            del body["chat_template_kwargs"]
        return {"model": self._served.model, **body}

    def _with_ids(self, page: dict[str, Any], path: str, key: str, **options: bool) -> Sent:
        """The text in an answer, and the ids that another page makes of it."""
        if "error" in page:
            return Sent.refusal(page["error"])
        text = page.get("prompt")
        if not isinstance(text, str):
            raise self._silent("text")
        return Sent(text, token_ids(self._post(path, {key: text, **options}).get("tokens")))

    def _with_text(self, prompt: TrainedPrompt, page: dict[str, Any], key: str) -> Sent:
        """The ids in an answer, and their text."""
        if "error" in page:
            return Sent.refusal(page["error"])
        ids = token_ids(page.get(key))
        if ids is None:
            raise self._silent("ids")
        if ids == prompt.ids or self._is_same_text(prompt, ids):
            return Sent(prompt.rendered.text, ids)
        body = {"model": self._served.model, "tokens": list(ids), "skip_special_tokens": False}
        back = self._post("/detokenize", body)
        text = back.get("prompt", back.get("text"))
        if not isinstance(text, str):
            raise self._silent("text")
        return Sent(text, ids)

    def _silent(self, what: str) -> HarnessError:
        """The error for a server that does not say what it sends."""
        hint = "update it to 0.5.13 or later" if self._served.kind == SGLANG else "update it"
        message = f"this {self._served.kind} does not return the {what} of a prompt"
        return HarnessError(message, where=self._pages.url, hint=hint)

    def _is_same_text(self, prompt: TrainedPrompt, ids: tuple[int, ...]) -> bool:
        """Whether the server turns the trained text into these ids, apart from BOS.

        Decoding the ids would prove less: not every tokenizer restores the whole text.
        """
        asked = {"prompt": prompt.rendered.text, "add_special_tokens": False}
        page = self._post("/tokenize", {"model": self._served.model, **asked})
        made, bos = token_ids(page.get("tokens")), self.trained.tokenizer.bos_token_id
        return made is not None and without_bos_ids(made, bos)[0] == without_bos_ids(ids, bos)[0]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        page = self._pages.post(path, body)
        if not page:
            raise HarnessError(f"the server has no page {path}", where=self._pages.url)
        return page


def token_ids(value: Any) -> tuple[int, ...] | None:
    """Ids in a server's answer; None for anything else."""
    if isinstance(value, list) and all(isinstance(one, int) for one in value):
        return tuple(value)
    return None
