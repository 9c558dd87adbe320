"""The frozen records that the parts of the package pass to each other.

Each record checks its invariants when it is made, so later code relies on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from harness.conversation import NO_MARKS, AnswerMarks, CallMarks, Conversation, Message, Tool

SpanKind = Literal["bos", "header", "content", "reasoning", "call", "stop", "eos", "glue"]
_SPAN_KINDS = frozenset(get_args(SpanKind))

Finish = Literal["stop", "length", "error"]
Group = Literal["native", "seen", "held-out"]
GROUPS: tuple[Group, ...] = ("native", "seen", "held-out")
Word = Literal["works", "degraded", "broken", "unclear", "untestable"]
Outcome = Literal["passed", "improved", "inconclusive", "new", "failed", "missing", "stale"]

#: The checks that judge the calls of an answer; a case with tools has one of them.
CALL_CHECKS = ("calls", "no_call")


@dataclass(frozen=True, slots=True)
class Check:
    """One verifiable property of an answer, such as ``contains`` with its expected words."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class CaseVariant:
    """What was changed in the case with the id ``original``: where its question is asked.

    After ``tokens`` tokens of other talk, of which ``position`` percent come before the facts, or
    as question number ``turn`` of the conversation.
    """

    original: str
    tokens: int = 0
    position: int | None = None
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One evaluation item: messages that end before the answer, and how to score it.

    Exactly one of ``choices`` (with ``answer``, the index of the right one), ``checks`` and
    ``reference`` is given. ``name`` is the character that the assistant plays. A case with
    ``tools`` has a check that says which calls are right (``calls``), or that none is
    (``no_call``); it may end with a tool's result. ``thinking``: asked only in formats with
    thoughts, switched on or off; None: each format's default.
    """

    id: str
    messages: tuple[Message, ...]
    choices: tuple[str, ...] = ()
    answer: int | None = None
    checks: tuple[Check, ...] = ()
    reference: str | None = None
    expect_language: str = "en"
    name: str | None = None
    tags: tuple[str, ...] = ()
    source: str = ""
    variant: CaseVariant | None = None
    tools: tuple[Tool, ...] = ()
    thinking: bool | None = None

    def __post_init__(self) -> None:
        kinds = [bool(self.choices), bool(self.checks), self.reference is not None]
        if sum(kinds) != 1:
            raise ValueError("a case needs exactly one of choices, checks and reference")
        if self.choices and (self.answer is None or not 0 <= self.answer < len(self.choices)):
            raise ValueError(
                f"answer {self.answer!r} is not the index of one of {len(self.choices)} choices"
            )
        if not self.messages or self.messages[-1].role not in self._ends:
            ends = " or with a tool's result" if self.tools else ""
            raise ValueError(f"the messages of a case end with the user's{ends}")
        of_calls = [check.kind for check in self.checks if check.kind in CALL_CHECKS]
        if bool(self.tools) != bool(of_calls) or len(of_calls) > 1:
            raise ValueError(
                "a case with tools has one check of calls or no_call, no other has any"
            )
        if self.thinking is not None and (self.tools or not self.checks):
            raise ValueError("thinking is for cases with checks and without tools")

    @property
    def _ends(self) -> tuple[str, ...]:
        return ("user", "tool") if self.tools else ("user",)

    @property
    def conversation(self) -> Conversation:
        """The case's messages as a conversation that waits for the answer."""
        return Conversation(self.id, self.messages, self.tags, self.source, tools=self.tools)


@dataclass(frozen=True, slots=True)
class KeptTemplate:
    """How a foreign template that is kept unchanged takes its input: ``[kept]`` in its file.

    ``content``: a message's content as text or as a list of parts. ``arguments``: those of a call
    as an object or as JSON text. ``thought``: the key of an answer's thought.
    """

    content: Literal["text", "parts"] = "text"
    arguments: Literal["object", "text"] = "object"
    thought: str = "reasoning_content"


@dataclass(frozen=True, slots=True)
class Format:
    """One prompt format: a chat template and the facts of its front matter (docs/formats.md)."""

    id: str
    family: str
    template: str
    stops: tuple[str, ...]
    digest: str
    stop_tokens: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    system: str = "own"
    system_default: str = ""
    names: str = "none"
    reasoning: str = "none"
    thoughts_off: Mapping[str, Any] = field(default_factory=dict)
    """The values of switches that turn thinking off."""
    tools: str = "none"
    thought_marks: AnswerMarks = NO_MARKS
    call_marks: CallMarks | None = None
    content_marks: AnswerMarks = NO_MARKS
    switches: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Template variables that a user may set, with their values, the default first."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """The switches that are set, as in ``qwen3:enable_thinking=false``, and other values that the
    template reads (``[variables]``)."""
    kept: KeptTemplate | None = None
    """Set for a foreign template that is kept unchanged; its spans are found by tracing."""
    eos: str = ""
    origin: str = ""
    notes: str = ""
    path: str = ""
    trusted: bool = field(default=False, compare=False, repr=False)
    """Whether the template is one of ours. Others run in a limited process (formats/guard.py)."""

    def __hash__(self) -> int:
        """Hashes only what identifies a format, because renderings are often looked up by it."""
        return hash((self.id, self.digest))

    @property
    def thinks(self) -> bool:
        """Whether the format supports thoughts and they are not switched off."""
        return self.reasoning != "none" and not (
            self.thoughts_off
            and all(self.setting(name) == value for name, value in self.thoughts_off.items())
        )

    def setting(self, name: str) -> Any:
        """The value of a switch: the one set, or the default."""
        return self.variables.get(name, self.switches[name][0])

    @property
    def calls(self) -> bool:
        """Whether the format supports tools, calls and results."""
        return self.tools != "none"


class Span(NamedTuple):
    """Characters ``[start, end)`` of a rendered text, and the index of their message, or −1.

    A named tuple for speed, since a rendering makes a dozen; Rendered checks them.
    """

    start: int
    end: int
    kind: SpanKind
    message: int = -1
    trained: bool = False


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the text that a model reads.

    The spans are sorted, disjoint and cover the text exactly. ``weights`` holds one number for each
    message, or nothing when all are 1. ``dropped`` are the indices of messages whose thought the
    format does not write there, because its owner does not. ``context`` are the indices of spans
    inside an answer that the loss leaves out: they are tokenised as part of it and not trained.
    ``plain`` are the ranges inside thoughts and calls that are the conversation's own text and not
    a mark of the format: like content, they never become control tokens.
    """

    text: str
    spans: tuple[Span, ...]
    stops: tuple[str, ...]
    format: str = ""
    weights: tuple[float, ...] = ()
    dropped: tuple[int, ...] = ()
    context: tuple[int, ...] = ()
    plain: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        at = 0
        for start, end, kind, _, _ in self.spans:
            if start != at or end <= start:
                raise ValueError(f"spans do not cover the text at character {at}")
            if kind not in _SPAN_KINDS:
                raise ValueError(f"unknown span kind {kind!r}")
            at = end
        if at != len(self.text):
            raise ValueError(f"spans end at {at}, the text at {len(self.text)}")

    @property
    def pieces(self) -> tuple[tuple[str, str], ...]:
        """The text in pieces, each with the kind of its span."""
        return tuple((self.text[span.start : span.end], span.kind) for span in self.spans)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, and for each whether it is trained.

    ``content`` marks the tokens that carry the last answer's own words. ``weights`` scales the loss
    of each token, or is empty when all are 1; a trained token's weight is more than 0. ``kinds``
    gives the part of each trained token, in order, if that was requested.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    content: tuple[bool, ...] = ()
    weights: tuple[float, ...] = ()
    kinds: tuple[SpanKind, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.trained) or not {len(self.content), len(self.weights)} <= {
            0,
            len(self.ids),
        }:
            raise ValueError("ids, trained, content and weights differ in length")

    def supervised(self) -> tuple[float, ...]:
        """The loss weights of the trained tokens but the text's first, which is not predicted."""
        weights = self.weights or (1.0,) * len(self.ids)
        return tuple(
            weight for weight, trained in zip(weights[1:], self.trained[1:], strict=True) if trained
        )

    @property
    def tokens_read(self) -> int:
        """How many tokens predict the trained ones: all before the last of them."""
        return max((at for at, trained in enumerate(self.trained) if trained), default=0)

    @property
    def predicted(self) -> list[tuple[int, int]]:
        """Each trained token that one before it predicts: that one's position, and the token."""
        return [(at - 1, self.ids[at]) for at, trained in enumerate(self.trained) if trained and at]


@dataclass(frozen=True, slots=True)
class Loglikelihood:
    """Log-probability in nats of one continuation after a prompt, and its number of tokens.

    ``off_script`` is, at each token, the probability of all tokens in a script that the expected
    language does not use.
    """

    logprob: float
    tokens: int
    token_logprobs: tuple[float, ...] = ()
    off_script: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one answer. ``value`` is None when it was not scored, which differs from 0."""

    case: str
    format: str
    metric: str
    value: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The mean of one metric in one format with its 95 % interval.

    ``mean`` is None when nothing was scored.
    """

    format: str
    group: Group
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    not_scored: int = 0

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.n == 0):
            raise ValueError(
                f"{self.format}/{self.metric}: a mean without items, or items without a mean"
            )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict rests on: a mean over ``n`` cases, with the one that speaks most for it.

    Where there is a ``reference``, ``low`` and ``high`` bound ``loss``, how much worse than it the
    format is on the same cases; else they bound ``value``. The interval is that of the test: None
    where none can be given. ``worst_case`` is empty where no case lost.
    """

    metric: str
    value: float
    n: int
    reference: float | None = None
    loss: float | None = None
    low: float | None = None
    high: float | None = None
    worst_case: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Does the model work in this format? One word, with reason, evidence and remedy.

    ``needed`` is the number of cases of each kind that would settle an unclear one, if any would.
    ``loss_at_most``: a larger loss in any rate, such as right answers or answers that end, is
    excluded for an unclear one, with 95 % confidence; None where nothing is.
    """

    format: str
    word: Word
    reason: str
    remedy: str = ""
    evidence: Evidence | None = None
    needed: int | None = None
    loss_at_most: float | None = None


@dataclass(frozen=True, slots=True)
class GateCheck:
    """The gate's outcome for one aggregate against its baseline."""

    format: str
    metric: str
    outcome: Outcome
    baseline: float | None
    current: float | None
    allowed: float
    n: int
    p: float | None = None
    why: str = ""
    worst_case: str = ""
    interval: tuple[float, float] | None = None
    """95 % interval of current − baseline over the paired cases."""
    needed: int = 0
    """About how many cases would decide an inconclusive check; 0: not known."""

    @property
    def delta(self) -> float | None:
        """Current minus baseline."""
        if self.baseline is None or self.current is None:
            return None
        return self.current - self.baseline

    @property
    def fails(self) -> bool:
        """Whether this check fails the gate. Inconclusive ones do so only in a strict gate."""
        return self.outcome in ("failed", "missing", "stale")
