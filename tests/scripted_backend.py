"""A backend for tests, whose answers come from a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.backends.protocol import Answer, GenerateRequest, ScoreRequest
from harness.records import Loglikelihood, Rendered

Reply = Callable[[Rendered], str]
LogProb = Callable[[Rendered], float]


class ScriptedBackend:
    """Replies with ``reply(prompt)`` up to the first stop; scores with ``logprob(rendering)``."""

    bos_token = ""
    eos_token = "</s>"
    no_loglikelihood = ""
    applies_template = False

    def __init__(
        self,
        reply: Reply,
        logprob: LogProb = lambda rendered: -float(len(rendered.text)),
        name: str = "scripted",
    ) -> None:
        self._reply = reply
        self._logprob = logprob
        self._name = name
        self.asked = 0

    @property
    def fingerprint(self) -> dict[str, str]:
        return {
            "backend": "scripted",
            "model": self._name,
            "adapter": "",
            "dtype": "none",
            "device": "none",
        }

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[str, Answer]]]:
        for request in requests:
            self.asked += 1
            text = self._reply(request.prompt)
            stops = (*request.prompt.stops, self.eos_token)
            yield [(request.key, Answer.until_stop(text, stops, "length"))]

    def score(
        self, requests: Sequence[ScoreRequest]
    ) -> Iterator[list[tuple[str, list[Loglikelihood]]]]:
        for request in requests:
            self.asked += 1
            yield [
                (
                    request.key,
                    [
                        Loglikelihood(self._logprob(answer), max(1, len(answer.text.split())))
                        for answer in request.answers
                    ],
                )
            ]
