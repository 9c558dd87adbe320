"""Any OpenAI-compatible server: llama.cpp, vLLM, SGLang, text-generation-webui, Ollama and others.

Prompts go to ``/v1/completions`` as the text that we rendered, so that the formats are measured and
not the server's template. With ``chat`` the messages go to ``/v1/chat/completions``, so that the
server's template is measured. The server adds BOS itself. Ollama is asked by its own API, since its
``/v1/completions`` puts the model's template around our text (harness.backends.ollama_server).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from harness.backends.chat_messages import chat_messages, parsed_message
from harness.backends.protocol import (
    Answer,
    Answers,
    Backend,
    GenerateRequest,
    ModelSpec,
    ScoreRequest,
    Scorings,
    Unscored,
)
from harness.backends.server_answers import read_logprobs, read_text
from harness.backends.server_calls import NotSupportedError, PromptTooLongError, Server
from harness.backends.server_facts import ServerFacts
from harness.conversation import ParsedAnswer
from harness.errors import HarnessError
from harness.records import Finish, Loglikelihood, Rendered

RequestT = TypeVar("RequestT", GenerateRequest, ScoreRequest)
ResultT = TypeVar("ResultT")
_Completion = tuple[str, Finish, ParsedAnswer | None]

NO_LOGPROBS = "the server gives no log-probabilities of a prompt"
MAX_STOPS = 4
"""OpenAI takes no more; the other stops are cut off here."""
_MAX_TOKENS_BEFORE = 2
"""Tokens that a server may put before the text, such as BOS."""


def open_backend(
    model: ModelSpec,
    *,
    url: str,
    api_key: str = "none",
    chat: bool = False,
    concurrency: int = 8,
    retries: int = 8,
) -> OpenAIBackend:
    """The model of a server. Raises HarnessError for what a server decides itself."""
    if model.adapter:
        raise HarnessError("a server loads its adapter itself", hint="leave --adapter out")
    if model.quantisation:
        raise HarnessError(
            "a server stores its model itself", hint="leave --load-in-4bit and --load-in-8bit out"
        )
    return OpenAIBackend(
        url, model.model, api_key=api_key, chat=chat, concurrency=concurrency, retries=retries
    )


class OpenAIBackend(Backend):
    """One model of a server.

    After 408, 409, 429, 5xx, time-outs and lost connections a request is tried again ``retries``
    times, with growing pauses, after a malformed answer twice. Raises HarnessError when the server
    cannot be reached, refuses a request or keeps answering nonsense; the caller keeps what was
    answered before. A user name and password in ``base_url`` are sent, and shown nowhere.
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
        self.model = model
        self.chat = chat
        self.concurrency = concurrency
        self._server = Server(base_url, api_key=api_key, timeout=timeout, retries=retries)
        self.base_url = self._server.shown_url
        self.facts = ServerFacts(self._server, model, timeout)

    @property
    def fingerprint(self) -> dict[str, str]:
        return {
            "backend": "openai-chat" if self.chat else self._completions,
            "model": f"{self.model}@{self.base_url}#{self.facts.identity}",
            "adapter": "",
            "tokenizer": "",
            "dtype": "server",
            "device": "server",
        }

    @property
    def _completions(self) -> str:
        return "ollama-generate" if self.facts.ollama else "openai-completions"

    @property
    def eos_token(self) -> str:
        token = self.facts.props.get("eos_token")
        return token if isinstance(token, str) else ""

    @property
    def chat_template(self) -> str | None:
        template = self.facts.props.get("chat_template")
        return template if isinstance(template, str) else None

    @property
    def applies_template(self) -> bool:
        return self.chat

    @property
    def no_loglikelihood(self) -> str:
        return self._no_loglikelihood

    @cached_property
    def _no_loglikelihood(self) -> str:
        """Asked once: whether the server echoes a short text with its log-probabilities."""
        if self.chat:
            return "a chat endpoint gives no log-probabilities of an answer"
        if self.facts.ollama:
            return NO_LOGPROBS
        try:
            tokens = self._echo("one two three")
        except NotSupportedError:
            return NO_LOGPROBS
        complete = tokens and all(value is not None for value, _, _ in tokens[1:])
        return "" if complete else NO_LOGPROBS

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Answers]:
        """Answers, greedy or drawn by the server, each as soon as it arrives."""
        results: Iterator[list[tuple[str, Answer | Unscored]]]
        results = self._all(requests, self._answer)
        yield from results

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scorings]:
        """Log-probabilities from servers that echo a prompt with them (vLLM, SGLang).

        The server tokenises the whole text at once; a token that reaches over the edge of the
        answer counts. A request is left out when its tokens cannot be aligned with the text.
        """
        yield from self._all(requests, self._score)

    def _all(
        self, requests: Sequence[RequestT], work: Callable[[RequestT], ResultT | None]
    ) -> Iterator[list[tuple[str, ResultT]]]:
        """Results as they come, ``concurrency`` requests at a time; None is left out.

        Raises the first failure after the answers to all requests that were already sent.
        """
        waiting = iter(requests)
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.concurrency) as pool:
            running: dict[Future[ResultT | None], str] = {}
            try:
                while True:
                    if failure is None:
                        room = 2 * self.concurrency - len(running)
                        for request in itertools.islice(waiting, room):
                            running[pool.submit(work, request)] = request.key
                    if not running:
                        break
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    good = []
                    for future in done:
                        key = running.pop(future)
                        if error := future.exception():
                            failure = failure or error
                        elif (result := future.result()) is not None:
                            good.append((key, result))
                    if good:
                        yield good
                    if failure is not None:
                        running = {
                            future: key for future, key in running.items() if not future.cancel()
                        }
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure

    def _answer(self, request: GenerateRequest) -> Answer | Unscored | None:
        stops = () if self.chat else request.prompt.stops
        ollama = not self.chat and self.facts.ollama
        try:
            text, finish, parsed = self._generate(request) if ollama else self._complete(request)
        except PromptTooLongError:
            return None
        except NotSupportedError as error:
            if not (self.chat and request.tools):
                raise
            return Unscored(f"the server takes no tools: {error.message}")
        return replace(Answer.until_stop(text, stops, finish), parsed=parsed)

    def _complete(self, request: GenerateRequest) -> _Completion:
        """The text of an answer, how it ended, and its parts if the server took it apart."""
        settings: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_new_tokens,
            "temperature": 0.0,
            "seed": 0,
        }
        if (sampling := request.sampling) is not None:
            settings |= {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "seed": sampling.seed % 2**31,
            }
            if sampling.top_k:  # not in OpenAI's API; vLLM, SGLang and llama.cpp call it so
                settings["extra_body"] = {"top_k": sampling.top_k}
        if self.chat:
            settings["messages"] = chat_messages(request.messages)
            if request.tools:
                settings["tools"] = [tool.as_object() for tool in request.tools]
            if request.variables:  # vLLM, SGLang and llama.cpp call the template's switches so
                extra = {"chat_template_kwargs": dict(request.variables)}
                settings["extra_body"] = {**settings.get("extra_body", {}), **extra}
        else:
            if request.prompt.stops:
                settings["stop"] = list(request.prompt.stops[:MAX_STOPS])
            settings["prompt"] = request.prompt.text + request.prefix

        def read(choice: dict[str, Any]) -> _Completion:
            text, finish = read_text(choice, request.max_new_tokens, chat=self.chat)
            parsed = parsed_message(choice.get("message"), text) if self.chat else None
            return text, finish, parsed

        return self._server.ask(settings, read, chat=self.chat)

    def _generate(self, request: GenerateRequest) -> _Completion:
        """The same from Ollama, which is to send our text to the model as it is."""
        sampling = request.sampling
        settings = {
            "model": self.model,
            "prompt": request.prompt.text + request.prefix,
            "raw": True,
            "stream": False,
            "think": False,  # else it takes out what a reasoning model writes first
            "truncate": False,  # a prompt beyond the context is refused, not cut
            "shift": False,
            "options": {
                "num_predict": request.max_new_tokens,
                "stop": list(request.prompt.stops),
                "temperature": sampling.temperature if sampling else 0.0,
                "top_p": sampling.top_p if sampling else 1.0,
                "top_k": sampling.top_k if sampling else 0,
                "seed": sampling.seed % 2**31 if sampling else 0,
                # a Modelfile may set these, and top_k and stop
                "min_p": 0.0,
                "typical_p": 1.0,
                "repeat_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
            },
        }

        def read(page: dict[str, Any]) -> _Completion:
            choice = {"text": page.get("response"), "finish_reason": page.get("done_reason")}
            return (*read_text(choice, request.max_new_tokens, chat=False), None)

        return self._server.ask_ollama(settings, read)

    def _score(self, request: ScoreRequest) -> list[Loglikelihood] | None:
        try:
            scored = [self._loglikelihood(rendered) for rendered in request.answers]
        except PromptTooLongError:
            return None
        known = [value for value in scored if value is not None]
        return known if len(known) == len(scored) else None

    def _loglikelihood(self, rendered: Rendered) -> Loglikelihood | None:
        last = max(
            span.message for span in rendered.spans if span.trained and span.kind == "content"
        )
        spans = [span for span in rendered.spans if span.kind == "content" and span.message == last]
        tokens = self._echo(rendered.text[: spans[-1].end])
        values = [
            value
            for value, start, end in tokens or ()
            if any(start < span.end and span.start < end for span in spans)
        ]
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return Loglikelihood(sum(known), len(known), tuple(round(value, 5) for value in known))

    def _echo(self, text: str) -> list[tuple[float | None, int, int]] | None:
        """(log-probability, start, end) of each token of a text; None from a server without echo.

        Places are found by the tokens' own texts: SGLang gives −1 for each offset, and vLLM's
        offsets count the BOS that it put before.
        """
        settings = {"model": self.model, "prompt": text, "max_tokens": 1, "temperature": 0.0}
        logprobs = self._server.ask({**settings, "echo": True, "logprobs": 1}, read_logprobs)
        for before in range(_MAX_TOKENS_BEFORE + 1):
            tokens = (logprobs or [])[before:]
            if tokens and "".join(token for token, _ in tokens).startswith(text):
                ends = list(itertools.accumulate(len(token) for token, _ in tokens))
                places = zip(tokens, [0, *ends[:-1]], ends, strict=True)
                return [
                    (value, start, end) for (_, value), start, end in places if start < len(text)
                ]
        return None
