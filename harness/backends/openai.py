"""Any OpenAI-compatible server: llama.cpp, vLLM, SGLang, text-generation-webui and the like.

Prompts go to ``/v1/completions`` as the text that we rendered, so the formats are measured and not the server's template;
with ``chat`` the messages go to ``/v1/chat/completions``, so the server's template is. The server adds BOS itself.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from harness.backends.protocol import Answer, GenerateRequest, ScoreRequest
from harness.errors import HarnessError
from harness.records import Finish, Rendered, Scoring

if TYPE_CHECKING:
    from openai import OpenAI

Request = TypeVar("Request", GenerateRequest, ScoreRequest)
Result = TypeVar("Result")

NO_LOGPROBS = "the server gives no log-probabilities of a prompt"
MOST_STOPS = 4
"""As many as OpenAI takes; the others are cut off here."""


class OpenAIBackend:
    """One model of a server. ``retries`` count the tries after 408, 409, 429, 5xx, time-outs and lost connections, with back-off.

    Raises HarnessError when the server cannot be reached or refuses; what it answered before is kept by the caller.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str = "none",
        chat: bool = False,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 8,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise HarnessError(f"{base_url!r} is no address of a server", hint="for example http://localhost:8080/v1")
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.chat = chat
        self.concurrency = concurrency
        try:
            from openai import OpenAI
        except ImportError:
            raise HarnessError("the client for servers is not installed", hint="pip install 'formatproof[openai]'") from None
        self._client: OpenAI = OpenAI(base_url=self.base_url, api_key=api_key, max_retries=retries, timeout=timeout)

    @cached_property
    def props(self) -> dict[str, Any]:
        """What llama.cpp tells of itself (``/props``: template, EOS, file); empty for servers that do not."""
        try:
            with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/props", timeout=10.0) as page:  # noqa: S310  # the scheme was checked
                told = json.load(page)
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    @property
    def fingerprint(self) -> dict[str, str]:
        facts = {key: self.props.get(key) for key in ("model_path", "model_alias", "build_info", "chat_template")}
        told = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16] if self.props else ""
        return {
            "backend": "openai-chat" if self.chat else "openai-completions",
            "model": f"{self.model}@{self.base_url}#{told}",
            "adapter": "",
            "dtype": "server",
            "device": "server",
        }

    @property
    def bos_token(self) -> str:
        """Nothing: the server's tokenizer writes BOS, and two would be one too many."""
        return ""

    @property
    def eos_token(self) -> str:
        return str(self.props.get("eos_token") or "")

    @cached_property
    def unscorable(self) -> str:
        """Why nothing can be scored here, or ""."""
        if self.chat:
            return "a chat endpoint gives no log-probabilities of an answer"
        text = "one two three"
        try:
            found = self._ask(lambda: self._echo(text))
        except HarnessError as error:
            if error.hint == _REFUSED:
                return NO_LOGPROBS
            raise
        return "" if found is not None else NO_LOGPROBS

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[str, Answer]]]:
        """Greedy answers, each as soon as it is there."""
        yield from self._all(requests, self._answer)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[list[tuple[str, list[Scoring]]]]:
        """Log-probabilities of the answers' words, from servers that echo a prompt with them (vLLM, SGLang).

        The server tokenises the whole text at once; a token that reaches over the edge of the words counts.
        """
        yield from self._all(requests, lambda request: [self._scoring(rendered) for rendered in request.answers])

    def _all(self, requests: Sequence[Request], work: Callable[[Request], Result]) -> Iterator[list[tuple[str, Result]]]:
        waiting = iter(requests)
        with ThreadPoolExecutor(self.concurrency) as pool:
            running: dict[Future[Result], str] = {}
            try:
                while True:
                    for request in waiting:
                        running[pool.submit(work, request)] = request.key
                        if len(running) >= 2 * self.concurrency:
                            break
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    finished = [(running.pop(future), future) for future in done]
                    good = [(key, future.result()) for key, future in finished if future.exception() is None]
                    if good:
                        yield good
                    for _, future in finished:
                        future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, request: GenerateRequest) -> Answer:
        stops = list(request.prompt.stops)
        settings: dict[str, Any] = {"model": self.model, "max_tokens": request.max_new_tokens, "temperature": 0.0, "seed": 0}
        if self.chat:
            messages: Any = [{"role": message.role, "content": message.content} for message in request.messages]
            choice = self._ask(lambda: self._client.chat.completions.create(messages=messages, **settings)).choices[0]
            text, reason = choice.message.content or "", str(choice.finish_reason)
            stops = []
        else:
            prompt = request.prompt.text + request.prefix
            if stops:
                settings["stop"] = stops[:MOST_STOPS]
            found = self._ask(lambda: self._client.completions.create(prompt=prompt, **settings)).choices[0]
            text, reason = found.text, str(found.finish_reason)
        cut = min(((text.index(stop), stop) for stop in stops if stop in text), default=None)
        if cut is not None:
            return Answer(text[: cut[0]], "stop", cut[1], ())
        finish: Finish = "stop" if reason == "stop" else "length" if reason == "length" else "error"
        return Answer(text, finish, "", ())

    def _scoring(self, rendered: Rendered) -> Scoring:
        last = max(span.message for span in rendered.spans if span.trained and span.kind == "content")
        words = [span for span in rendered.spans if span.kind == "content" and span.message == last]
        found = self._ask(lambda: self._echo(rendered.text[: words[-1].end]))
        if found is None:
            raise HarnessError(NO_LOGPROBS, where=self.base_url)
        values = [value for value, start, end in found if value is not None and any(start < s.end and s.start < end for s in words)]
        return Scoring(sum(values), len(values), tuple(round(value, 5) for value in values))

    def _echo(self, text: str) -> list[tuple[float | None, int, int]] | None:
        """(log-probability, start, end) of each token of a text; None from a server that does not echo."""
        found = self._client.completions.create(model=self.model, prompt=text, max_tokens=1, temperature=0.0, echo=True, logprobs=1).choices[0]
        told = found.logprobs
        if told is None or not told.tokens or not told.token_logprobs or not told.text_offset or not found.text.startswith(text):
            return None
        ends = [*told.text_offset[1:], len(found.text)]
        return [(value, start, end) for value, start, end in zip(told.token_logprobs, told.text_offset, ends, strict=True) if start < len(text)]

    def _ask(self, call: Callable[[], Result]) -> Result:
        import openai

        try:
            return call()
        except openai.APIStatusError as error:
            hint = _REFUSED if error.status_code < 500 else _AGAIN
            raise HarnessError(f"the server answers {error.status_code}: {_short(error.message)}", where=self.base_url, hint=hint) from None
        except openai.APIConnectionError as error:  # a time-out too
            raise HarnessError(f"the server cannot be reached: {_short(str(error))}", where=self.base_url, hint=_AGAIN) from None


_REFUSED = "look at the server's log, and at --api-key-env and the model's name"
_AGAIN = "what was answered is kept: the same command goes on from there"


def _short(text: str) -> str:
    return " ".join(text.split())[:200]
