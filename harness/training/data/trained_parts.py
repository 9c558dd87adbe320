"""Which parts of an answer are trained: its words, its thought, its calls, and the stop.

A part that the loss leaves out is still tokenised as a part of the answer, since the model writes
it at inference: it becomes context, like an answer of weight 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Literal

from harness.conversation import Message
from harness.records import Rendered, Span, SpanKind
from harness.training.config import LossConfig

Part = Literal["answers", "thoughts", "calls", "stop"]
PARTS: tuple[Part, ...] = ("answers", "thoughts", "calls", "stop")
_PART_OF: dict[SpanKind, Part] = {
    "reasoning": "thoughts",
    "call": "calls",
    "stop": "stop",
    "eos": "stop",
}


def part_of(kind: SpanKind) -> Part:
    """The part of an answer that a trained span of this kind is."""
    return _PART_OF.get(kind, "answers")


def selected(rendered: Rendered, messages: Sequence[Message], loss: LossConfig) -> Rendered:
    """The rendering with all that ``loss`` leaves out as context. Tool results are never trained.

    ``messages`` are those that were rendered. White space goes with the part after it, and a stop
    with the part before it: a model that is not taught calls is not taught to stop after one.
    """
    if loss == LossConfig():
        return rendered
    first = _last_turn(messages) if loss.last_turn_only else 0
    context: list[int] = []
    trained = [(at, span) for at, span in enumerate(rendered.spans) if span.trained]
    for message, answer in groupby(trained, key=lambda item: item[1].message):
        spans = list(answer)
        owners = _owners([span for _, span in spans])
        context += [
            at
            for (at, _), owner in zip(spans, owners, strict=True)
            if owner not in loss.train_on or 0 <= message < first
        ]
    return replace(rendered, context=tuple(context))


def _owners(spans: Sequence[Span]) -> list[Part]:
    """The part that each span of one answer goes with; none is a stop."""
    owners: list[Part | None] = []
    before: Part = "answers"
    for span in spans:
        part = part_of(span.kind)
        if span.kind != "glue" and part != "stop":
            before = part
        owners.append(None if span.kind == "glue" else before)
    after, found = before, list[Part]()
    for owner in reversed(owners):  # glue goes with what follows it
        after = owner or after
        found.append(after)
    return found[::-1]


def _last_turn(messages: Sequence[Message]) -> int:
    """The first message behind the last question: the answer to it, with its calls."""
    asked = [at for at, message in enumerate(messages) if message.role == "user"]
    return asked[-1] + 1 if asked else 0
