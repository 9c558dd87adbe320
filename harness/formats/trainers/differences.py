"""Where a trainer's mask differs from what should be trained.

The reference is our own rendering of the same conversation with the same template, in which exactly
the text, thoughts and calls of each answer and its stop are trained. White space does not count,
nor does a single character of a header, since a token may reach over its edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.conversation import Message
from harness.formats.trainers.trainer_mask import TrainerMask
from harness.formats.turns import common_length
from harness.records import Rendered, Span

#: Each kind of difference, and what it means.
KINDS = {
    "ends": "the trainer would stop with an error",
    "leaves the row out": "the row is not trained at all",
    "other text": "the trainer reads a different text, so the two cannot be compared",
    "double BOS": "the text begins with two BOS tokens",
    "trains a header": "the model learns to write the headers of turns, even the user's",
    "trains a question": "the model learns to write what a user or a system prompt says",
    "trains a tool result": "the model learns to invent the result of a call",
    "trains an answer of weight 0": "the data marks this answer as context",
    "misses an answer": "text of an answer is not trained",
    "misses a thought": "a thought is not trained",
    "misses a call": "a tool call is not trained",
    "misses the stop": "the model does not learn to end its answer",
    "truncates an answer": "the maximum length cuts an answer or leaves it out",
}


@dataclass(frozen=True)
class Difference:
    """One difference. ``text`` is the text concerned, at characters ``[start, end)``."""

    kind: str
    text: str = ""
    start: int = 0
    end: int = 0
    message: int = -1
    why: str = ""


def differences(
    mask: TrainerMask, ours: Rendered, messages: Sequence[Message], bos_token: str = ""
) -> list[Difference]:
    """How ``mask`` differs from ``ours``, the rendering of ``messages``, in the order of the text.

    A header counts as trained if two or all of its characters are. An answer, thought, call or stop
    counts as missed if any of its characters is.
    """
    if mask.error:
        return [Difference("ends", why=mask.error)]
    found = []
    if mask.left_out:
        found.append(Difference("leaves the row out", why=mask.left_out))
    if bos_token and mask.text.startswith(2 * bos_token):
        found.append(Difference("double BOS", 2 * bos_token, 0, 2 * len(bos_token)))
    offset = mask.text.find(ours.text)
    if offset < 0:
        at = common_length(mask.text, ours.text)
        text = mask.text[at : at + 40]
        return [*found, Difference("other text", text, at, at + len(text))]
    return found if mask.left_out else [*found, *_by_span(mask, ours, messages, offset)]


def _by_span(
    mask: TrainerMask, ours: Rendered, messages: Sequence[Message], offset: int
) -> Iterator[Difference]:
    first_cut = True
    for span in ours.spans:
        text = ours.text[span.start : span.end]
        size = len("".join(text.split()))
        if not size:
            continue
        start, end = span.start + offset, span.end + offset
        trained = mask.trains(start, end)
        weight = ours.weights[span.message] if ours.weights and span.message >= 0 else 1.0
        if span.trained and weight > 0:
            if trained == size:
                continue
            if mask.kept and not mask.kept[0] <= start < end <= mask.kept[1]:
                if first_cut:
                    yield Difference("truncates an answer", text, start, end, span.message)
                first_cut = False
                continue
            yield Difference(_missed(span), text, start, end, span.message)
        elif trained and (kind := _trained_wrongly(span, trained, size, messages)):
            yield Difference(kind, text, start, end, span.message)


def _missed(span: Span) -> str:
    names = {
        "reasoning": "misses a thought",
        "call": "misses a call",
        "content": "misses an answer",
    }
    return names.get(span.kind, "misses the stop")


def _trained_wrongly(span: Span, trained: int, size: int, messages: Sequence[Message]) -> str:
    """The fault of training this span, which should not be trained; "" if it does no harm."""
    if span.trained:
        return "trains an answer of weight 0"
    if span.kind in ("stop", "eos"):
        return ""  # training an end twice does no harm
    if span.kind == "bos" and not span.start:
        return ""  # the first token of a text is never predicted
    if span.kind == "content" and 0 <= span.message < len(messages):
        role = messages[span.message].role
        if role == "assistant":
            return ""
        return "trains a tool result" if role == "tool" else "trains a question"
    return "trains a header" if trained > 1 or trained == size else ""
