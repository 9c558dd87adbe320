"""Any OpenAI-compatible server: llama.cpp, vLLM, SGLang, text-generation-webui and the like.

Prompts go to ``/v1/completions`` as the text that we rendered, so the formats are measured and not the server's template;
with ``chat`` the messages go to ``/v1/chat/completions``, so the server's template is. The server adds BOS itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from harness.backends.protocol import Answer, GenerateRequest, ScoreRequest
from harness.backends.server_facts import AGAIN, ServerFacts, short
from harness.errors import HarnessError
from harness.records import Finish, Loglikelihood, Rendered

if TYPE_CHECKING:
    from openai import OpenAI

Request = TypeVar("Request", GenerateRequest, ScoreRequest)
Result = TypeVar("Result")

NO_LOGPROBS = "the server gives no log-probabilities of a prompt"
MOST_STOPS = 4
"""As many as OpenAI takes; the others are cut off here."""
_MOST_BEFORE = 2
"""Tokens that a server may have put before the text: BOS."""


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
    def bos_token(self) -> str:
        """Nothing: the server's tokenizer writes BOS, and two would be one too many."""
        return ""

    @property
    def eos_token(self) -> str:
        return str(self.facts.props.get("eos_token") or "")

    @cached_property
    def no_loglikelihood(self) -> str:
        """Why nothing can be scored here, or ""."""
        if self.chat:
            return "a chat endpoint gives no log-probabilities of an answer"
        text = "one two three"
        try:
            found = self._ask(lambda: self._echo(text))
        except HarnessError as error:
            if error.hint == _UNKNOWN:
                return NO_LOGPROBS
            raise
        return "" if found and all(value is not None for value, _, _ in found[1:]) else NO_LOGPROBS

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[str, Answer]]]:
        """Answers, greedy or drawn by the server, each as soon as it is there."""
        yield from self._all(requests, self._answer)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[list[tuple[str, list[Loglikelihood]]]]:
        """Log-probabilities of the answers' words, from servers that echo a prompt with them (vLLM, SGLang).

        The server tokenises the whole text at once; a token that reaches over the edge of the words counts. A request whose
        tokens cannot be told apart is left out.
        """
        yield from self._all(requests, self._scorings)

    def _all(
        self, requests: Sequence[Request], work: Callable[[Request], Result | None]
    ) -> Iterator[list[tuple[str, Result]]]:
        """Results as they come, ``concurrency`` requests at a time. What has no result is left out.

        Raises the first failure after the requests that were already with the server: what it still answers is not lost.
        """
        waiting = iter(requests)
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.concurrency) as pool:
            running: dict[Future[Result | None], str] = {}
            try:
                while True:
                    if failure is None:
                        for request in itertools.islice(
                            waiting, 2 * self.concurrency - len(running)
                        ):
                            running[pool.submit(work, request)] = request.key
                    if not running:
                        break
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    finished = [(running.pop(future), future) for future in done]
                    results = [
                        (key, future.result())
                        for key, future in finished
                        if future.exception() is None
                    ]
                    if good := [(key, result) for key, result in results if result is not None]:
                        yield good
                    failure = failure or next(
                        (future.exception() for _, future in finished if future.exception()), None
                    )
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
            text, reason = self._said(request)
        except _TooLong:
            return None
        cut = min(((text.index(stop), stop) for stop in stops if stop in text), default=None)
        if cut is not None:
            return Answer(text[: cut[0]], "stop", cut[1], ())
        finish: Finish = "stop" if reason == "stop" else "length" if reason == "length" else "error"
        return Answer(text, finish, "", ())

    def _said(self, request: GenerateRequest) -> tuple[str, str]:
        """The text of an answer and why it ended."""
        settings: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_new_tokens,
            "temperature": 0.0,
            "seed": 0,
        }
        if (drawn := request.sampling) is not None:
            settings |= {
                "temperature": drawn.temperature,
                "top_p": drawn.top_p,
                "seed": drawn.seed % 2**31,
            }
            if drawn.top_k:
                settings["extra_body"] = {
                    "top_k": drawn.top_k
                }  # not OpenAI's, but what vLLM, SGLang and llama.cpp call it
        if self.chat:
            messages: Any = [
                {"role": message.role, "content": message.content} for message in request.messages
            ]
            choice = self._ask(
                lambda: self._client.chat.completions.create(messages=messages, **settings)
            ).choices[0]
            return choice.message.content or "", str(choice.finish_reason)
        if request.prompt.stops:
            settings["stop"] = list(request.prompt.stops[:MOST_STOPS])
        found = self._ask(
            lambda: self._client.completions.create(
                prompt=request.prompt.text + request.prefix, **settings
            )
        ).choices[0]
        return found.text, str(found.finish_reason)

    def _scorings(self, request: ScoreRequest) -> list[Loglikelihood] | None:
        try:
            found = [self._scoring(rendered) for rendered in request.answers]
        except _TooLong:
            return None
        scorings = [scoring for scoring in found if scoring is not None]
        return scorings if len(scorings) == len(found) else None

    def _scoring(self, rendered: Rendered) -> Loglikelihood | None:
        last = max(
            span.message for span in rendered.spans if span.trained and span.kind == "content"
        )
        words = [span for span in rendered.spans if span.kind == "content" and span.message == last]
        found = self._ask(lambda: self._echo(rendered.text[: words[-1].end]))
        values = [
            value
            for value, start, end in found or ()
            if any(start < s.end and s.start < end for s in words)
        ]
        told = [value for value in values if value is not None]
        if not told or len(told) < len(values):
            return None
        return Loglikelihood(sum(told), len(told), tuple(round(value, 5) for value in told))

    def _echo(self, text: str) -> list[tuple[float | None, int, int]] | None:
        """(log-probability, start, end) of each token of a text; None from a server that does not echo.

        Places are found by the tokens' own texts: SGLang gives −1 for each offset, and vLLM's count the BOS that it put before.
        """
        found = self._client.completions.create(
            model=self.model, prompt=text, max_tokens=1, temperature=0.0, echo=True, logprobs=1
        ).choices[0]
        told = found.logprobs
        if (
            told is None
            or not told.tokens
            or not told.token_logprobs
            or not all(isinstance(token, str) for token in told.tokens)
        ):
            return None
        for before in range(_MOST_BEFORE + 1):
            tokens = told.tokens[before:]
            if tokens and "".join(tokens).startswith(text):
                ends = list(itertools.accumulate(map(len, tokens)))
                places = zip(told.token_logprobs[before:], [0, *ends], ends, strict=False)
                return [(value, start, end) for value, start, end in places if start < len(text)]
        return None

    def _ask(self, call: Callable[[], Result]) -> Result:
        import openai

        try:
            return call()
        except openai.APIStatusError as error:
            if error.status_code == HTTPStatus.BAD_REQUEST and "context" in error.message.lower():
                raise _TooLong from None
            hint = (
                _UNKNOWN
                if error.status_code in _NOT_SUPPORTED
                else _REFUSED
                if error.status_code < 500
                else AGAIN
            )
            raise HarnessError(
                f"the server answers {error.status_code}: {short(error.message)}",
                where=self.base_url,
                hint=hint,
            ) from None
        except openai.APIConnectionError as error:  # a time-out too
            raise HarnessError(
                f"the server cannot be reached: {short(str(error))}",
                where=self.base_url,
                hint=AGAIN,
            ) from None


class _TooLong(Exception):
    """The prompt does not fit into the server's context: not scored, and no reason to end the run."""


#: What a server says to a request that it does not know how to serve; a wrong key or name and too many requests are other numbers.
_NOT_SUPPORTED = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.NOT_IMPLEMENTED,
)
_UNKNOWN = "the server does not serve such a request: look at its log"
_REFUSED = "look at the server's log, and at --api-key-env and the model's name"
