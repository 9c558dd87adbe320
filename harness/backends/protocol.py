"""What an engine is asked, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.backends.sampling import Sampling
from harness.records import Finish, Message, Rendered, Loglikelihood


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Answer after ``prompt``, which ends with a generation prompt: greedily, or drawn as ``sampling`` says.

    ``prefix`` are the first characters of an answer that are given; they do not come back. With a ``language`` the
    probability of other scripts is read along the answer. ``messages`` are what the prompt was rendered from, for an
    engine that has a template of its own.
    """

    key: str
    prompt: Rendered
    max_new_tokens: int
    prefix: str = ""
    stop_tokens: tuple[str, ...] = ()
    language: str = ""
    messages: tuple[Message, ...] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Read the log-probability of the last answer of each rendering. The renderings share their prompt.

    With a ``language``, and one rendering alone, the probability of other scripts is read along it too.
    """

    key: str
    answers: tuple[Rendered, ...]
    language: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated answer: text before the stop, the stop that ended it, and the ids without it.

    ``off_script`` is the probability of tokens of other scripts at each id, where a language was asked for.
    """

    text: str
    finish: Finish
    stop: str
    token_ids: tuple[int, ...]
    off_script: tuple[float, ...] = ()


class Backend(Protocol):
    """An engine. Results come batch by batch, in any order, each with its request's key."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """All that decides the numbers: model, adapter and tokenizer digests, dtype, engine and its version."""
        ...

    @property
    def no_loglikelihood(self) -> str:
        """Why the engine can score nothing, or "" where it can."""
        ...

    @property
    def bos_token(self) -> str: ...

    @property
    def eos_token(self) -> str: ...

    def generate(
        self, requests: Sequence[GenerateRequest]
    ) -> Iterator[list[tuple[str, Answer]]]: ...

    def score(
        self, requests: Sequence[ScoreRequest]
    ) -> Iterator[list[tuple[str, list[Loglikelihood]]]]: ...
