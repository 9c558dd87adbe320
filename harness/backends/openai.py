"""Any OpenAI-compatible server: llama.cpp, vLLM, SGLang, text-generation-webui and others.

Prompts go to ``/v1/completions`` as the text that we rendered, so that the formats are measured and
not the server's template. With ``chat`` the messages go to ``/v1/chat/completions``, so that the
server's template is measured. The server adds BOS itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from harness.backends.protocol import Answer, Backend, GenerateRequest, ModelSpec, ScoreRequest
from harness.backends.server_facts import RESUME, ServerFacts, one_line
from harness.errors import HarnessError
from harness.records import Finish, Loglikelihood, Rendered

if TYPE_CHECKING:
    from openai import OpenAI

RequestT = TypeVar("RequestT", GenerateRequest, ScoreRequest)
ResultT = TypeVar("ResultT")

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
    times, with growing pauses. Raises HarnessError when the server cannot be reached or refuses a
    request; the caller keeps what was answered before.
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
            raise HarnessError(
                f"{base_url!r} is no address of a server",
                hint="for example http://localhost:8080/v1",
            )
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.chat = chat
        self.concurrency = concurrency
        from openai import OpenAI

        self._client: OpenAI = OpenAI(
            base_url=self.base_url, api_key=api_key, max_retries=retries, timeout=timeout
        )
        self.facts = ServerFacts(self._client, self.base_url, model, timeout)

    @property
    def fingerprint(self) -> dict[str, str]:
        return {
            "backend": "openai-chat" if self.chat else "openai-completions",
            "model": f"{self.model}@{self.base_url}#{self.facts.identity}",
            "adapter": "",
            "tokenizer": "",
            "dtype": "server",
            "device": "server",
        }

    @property
    def eos_token(self) -> str:
        return str(self.facts.props.get("eos_token") or "")

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
        try:
            tokens = self._ask(lambda: self._echo("one two three"))
        except _NotSupported:
            return NO_LOGPROBS
        complete = tokens and all(value is not None for value, _, _ in tokens[1:])
        return "" if complete else NO_LOGPROBS

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[str, Answer]]]:
        """Answers, greedy or drawn by the server, each as soon as it arrives."""
        yield from self._all(requests, self._answer)

    def score(
        self, requests: Sequence[ScoreRequest]
    ) -> Iterator[list[tuple[str, list[Loglikelihood]]]]:
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

    def _answer(self, request: GenerateRequest) -> Answer | None:
        stops = () if self.chat else request.prompt.stops
        try:
            text, reason = self._complete(request)
        except _PromptTooLong:
            return None
        finish: Finish = "stop" if reason == "stop" else "length" if reason == "length" else "error"
        return Answer.until_stop(text, stops, finish)

    def _complete(self, request: GenerateRequest) -> tuple[str, str]:
        """The text of an answer and why it ended."""
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
            messages: Any = [
                {"role": message.role, "content": message.content} for message in request.messages
            ]
            reply = self._ask(
                lambda: self._client.chat.completions.create(messages=messages, **settings)
            ).choices[0]
            return reply.message.content or "", str(reply.finish_reason)
        if request.prompt.stops:
            settings["stop"] = list(request.prompt.stops[:MAX_STOPS])
        prompt = request.prompt.text + request.prefix
        choice = self._ask(
            lambda: self._client.completions.create(prompt=prompt, **settings)
        ).choices[0]
        return choice.text, str(choice.finish_reason)

    def _score(self, request: ScoreRequest) -> list[Loglikelihood] | None:
        try:
            scored = [self._loglikelihood(rendered) for rendered in request.answers]
        except _PromptTooLong:
            return None
        known = [value for value in scored if value is not None]
        return known if len(known) == len(scored) else None

    def _loglikelihood(self, rendered: Rendered) -> Loglikelihood | None:
        last = max(
            span.message for span in rendered.spans if span.trained and span.kind == "content"
        )
        spans = [span for span in rendered.spans if span.kind == "content" and span.message == last]
        tokens = self._ask(lambda: self._echo(rendered.text[: spans[-1].end]))
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
        logprobs = (
            self._client.completions.create(
                model=self.model, prompt=text, max_tokens=1, temperature=0.0, echo=True, logprobs=1
            )
            .choices[0]
            .logprobs
        )
        if (
            logprobs is None
            or not logprobs.tokens
            or not logprobs.token_logprobs
            or not all(isinstance(token, str) for token in logprobs.tokens)
        ):
            return None
        for before in range(_MAX_TOKENS_BEFORE + 1):
            tokens = logprobs.tokens[before:]
            if tokens and "".join(tokens).startswith(text):
                ends = list(itertools.accumulate(map(len, tokens)))
                places = zip(logprobs.token_logprobs[before:], [0, *ends], ends, strict=False)
                return [(value, start, end) for value, start, end in places if start < len(text)]
        return None

    def _ask(self, call: Callable[[], ResultT]) -> ResultT:
        """Call the server, and turn its errors into ours."""
        import openai

        try:
            return call()
        except openai.APIStatusError as error:
            code = error.status_code
            if code == HTTPStatus.BAD_REQUEST and "context" in error.message.lower():
                raise _PromptTooLong from None
            message = f"the server answers {code}: {one_line(error.message)}"
            if code in _NOT_SUPPORTED:
                hint = "the server does not serve such a request: look at its log"
                raise _NotSupported(message, where=self.base_url, hint=hint) from None
            refused = "look at the server's log, and at --api-key-env and the model's name"
            raise HarnessError(
                message, where=self.base_url, hint=refused if code < 500 else RESUME
            ) from None
        except openai.APIConnectionError as error:  # a time-out too
            raise HarnessError(
                f"the server cannot be reached: {one_line(str(error))}",
                where=self.base_url,
                hint=RESUME,
            ) from None


class _PromptTooLong(Exception):
    """The prompt does not fit into the server's context: not scored, and the run goes on."""


class _NotSupported(HarnessError):
    """The server does not know how to serve such a request."""


#: What a server answers then; a wrong key or name and too many requests have other codes.
_NOT_SUPPORTED = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.NOT_IMPLEMENTED,
)
