"""What a backend is asked, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from harness.backends.sampling import Sampling
from harness.conversation import Message, ParsedAnswer, Tool
from harness.models import DeviceMap, Dtype
from harness.models.quantisation import Quantisation
from harness.records import Finish, Loglikelihood, Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model that a backend is to run, as the user names it, and how."""

    model: str
    adapter: str | None = None
    dtype: Dtype = "auto"
    quantisation: Quantisation = field(default_factory=Quantisation)
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto``: the first that is there."""
    device_map: DeviceMap = ""
    """How accelerate lays a model over several devices; "" for one."""
    batch_size: int = 0
    """The most rows at a time. 0: what fits into the memory. Results do not depend on it."""
    max_tokens_per_batch: int = 0
    """The most tokens at a time. 0: what fits into the memory. Results do not depend on it."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Generate an answer after ``prompt``, which ends with a generation prompt.

    The answer is greedy, or drawn as ``sampling`` says. ``prefix`` holds its first characters where
    they are given; they do not come back. With a ``language`` the probability of tokens of other
    scripts is read along the answer. ``messages``, ``tools`` and ``variables`` (the switches of
    the template that are set) are what the prompt was rendered from, for a backend that applies a
    template of its own.
    """

    key: str
    prompt: Rendered
    max_new_tokens: int
    prefix: str = ""
    stop_tokens: tuple[str, ...] = ()
    language: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    sampling: Sampling | None = None
    variables: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Read the log-probability of the last answer of each rendering; they share their prompt.

    With a ``language`` and a single rendering, the probability of tokens of other scripts is read
    along it too.
    """

    key: str
    answers: tuple[Rendered, ...]
    language: str = ""


AnyRequest = GenerateRequest | ScoreRequest


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer: its text before the stop, the stop that ended it, and its token ids.

    ``token_ids`` are the fewest first tokens that hold the whole text: without the stop, unless a
    token holds the end of the text and the start of the stop. ``off_script`` is, at each of them,
    the probability of tokens of other scripts, where a language was asked for. ``parsed`` is the
    answer's thought, words and calls, where a server took them apart itself.
    """

    text: str
    finish: Finish
    stop: str
    token_ids: tuple[int, ...] = ()
    off_script: tuple[float, ...] = ()
    parsed: ParsedAnswer | None = None

    @classmethod
    def until_stop(cls, text: str, stops: Iterable[str], otherwise: Finish) -> Answer:
        """The text up to the first of the stops that it holds; without one, ``otherwise``."""
        at, stop = min(
            ((text.index(stop), stop) for stop in stops if stop in text), default=(len(text), "")
        )
        return cls(text[:at], "stop" if stop else otherwise, stop)


ROUNDING = 1e-3
"""How far above 0 rounding may bring a log-probability."""
NOT_FINITE = "not finite:"
"""How the reason begins where a model's number is NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Unscored:
    """Takes the place of a result that cannot be used, and says why. It is never stored."""

    why: str


Result = Answer | Sequence[Loglikelihood]
"""What a request is answered by."""
Answers = Sequence[tuple[str, Answer | Unscored]]
Scorings = Sequence[tuple[str, Sequence[Loglikelihood] | Unscored]]
"""A batch of results, each with its request's key."""


def why_unscored(result: Result | Unscored) -> str:
    """Why a backend's result is not stored and not scored, or "" where it is usable.

    Its numbers must be finite, and no log-probability above 0.
    """
    if isinstance(result, Unscored):
        return result.why
    if isinstance(result, Answer):
        return _why_not_finite("off-script probability", result.off_script)
    for scoring in result:
        logprobs = (scoring.logprob, *scoring.token_logprobs)
        why = _why_not_finite("log-probability", logprobs)
        why = why or _why_not_finite("off-script probability", scoring.off_script)
        if why:
            return why
        if max(logprobs) > ROUNDING:
            return f"a log-probability of {max(logprobs):g} is above 0"
    return ""


def _why_not_finite(name: str, values: Iterable[float]) -> str:
    broken = [value for value in values if not math.isfinite(value)]
    if not broken:
        return ""
    article = "an" if name[0] == "o" else "a"
    return f"{NOT_FINITE} {article} {name} is {'NaN' if math.isnan(broken[0]) else broken[0]}"


class Backend(Protocol):
    """Runs a model. Results come batch by batch, in any order, each with its request's key.

    A subclass has to give ``fingerprint``, ``generate`` and ``score``; docs/add-a-backend.md shows
    one.
    """

    @property
    def fingerprint(self) -> dict[str, str]:
        """Everything that decides the numbers.

        ``backend`` with its version, ``model``, ``adapter``, ``tokenizer``, ``dtype``, ``device``,
        and more by names of your own.
        """
        ...

    @property
    def no_loglikelihood(self) -> str:
        """Why the backend cannot score given answers, or "" where it can."""
        return ""

    @property
    def bos_token(self) -> str:
        """The text that formats write for BOS; "" where the backend adds BOS itself."""
        return ""

    @property
    def eos_token(self) -> str:
        """The text that formats write for EOS."""
        return ""

    @property
    def model_name(self) -> str:
        """A short name for reports; "" for the one that the user gave."""
        return ""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The model's tokenizer, whose chat template decides which format is native, or None."""
        return None

    @property
    def chat_template(self) -> str | None:
        """The model's chat template where there is no tokenizer to apply it, or None."""
        return None

    @property
    def applies_template(self) -> bool:
        """Whether it renders the messages itself, so that only its own template is measured."""
        return False

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Answers]:
        """Generate answers. A request that cannot be served is left out, and not scored."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scorings]:
        """Score the given answers, a Loglikelihood for each rendering of a request.

        Numbers that are not finite need no care: the caller does not score them, and says so.
        """
        ...

    def close(self) -> None:
        """Free what the backend holds, after the last request."""
        return
