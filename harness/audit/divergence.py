"""How far an adapter moves a model in a format: the divergence from its base."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.audit.amplified import Pair
from harness.audit.probes import shortest_references, written
from harness.backends.local.padded import logits_at
from harness.conversation import Message
from harness.errors import HarnessError
from harness.records import Case, Format
from harness.tokens.encode import encode

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel

#: Shipped references along which the divergence is measured, and tokens of each.
REFERENCES, MOST_TOKENS = 10, 16


@dataclass(frozen=True, slots=True)
class Median:
    """A median, and an interval that covers it with at least 95 %, whatever the distribution.

    The interval lies between two of the values (order statistics); ``low`` and ``high`` are None
    for fewer than 6 values, where no pair covers enough.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Depth:
    """KL(adapter‖base) in a format, in nats, as medians over ``n`` questions.

    ``first`` is that at the first token of the answer, ``along`` the mean over the tokens of a
    given answer, which is the same in all formats.
    """

    format: str
    first: Median
    along: Median
    n: int


def depth(pair: Pair, chat_format: Format, cases: Sequence[Case]) -> Depth:
    """The divergence along the references of ``cases``. Raises HarnessError if none can be used."""
    first, along = [], []
    for case in cases:
        values = _divergence(pair, chat_format, case)
        if values:
            first.append(values[0])
            along.append(sum(values) / len(values))
    if not first:
        raise HarnessError(f"no reference can be written in format {chat_format.id}")
    return Depth(chat_format.id, median(first), median(along), len(first))


def references() -> list[Case]:
    """The questions along whose references the divergence is measured."""
    return shortest_references(REFERENCES)


def _divergence(pair: Pair, chat_format: Format, case: Case) -> list[float]:
    """KL(adapter‖base) at the first tokens of the case's reference."""
    tokenizer = pair.tuned.tokenizer
    answer = Message("assistant", case.reference or "")
    answered = replace(case.conversation, messages=(*case.messages, answer))
    encoded = encode(written(answered, chat_format, tokenizer, as_prompt=False), tokenizer)
    places = [at for at, content in enumerate(encoded.content) if content and at][:MOST_TOKENS]
    if not places:
        return []
    ids = encoded.ids[: places[-1] + 1]
    before = [at - 1 for at in places]
    ours = _log_probabilities(pair.tuned, ids, before)
    with pair.base() as base:
        theirs = _log_probabilities(base, ids, before)
    found: list[float] = (ours.exp() * (ours - theirs.to(ours.device))).sum(-1).tolist()
    if not all(map(math.isfinite, found)):
        raise HarnessError("a log-probability is NaN or infinite", where=pair.tuned.name)
    return found


def _log_probabilities(
    loaded: LoadedModel, ids: Sequence[int], places: Sequence[int]
) -> torch.Tensor:
    with loaded.inference():
        [logits] = logits_at([ids], [places], loaded)
        return logits.double().log_softmax(-1)


def median(values: Sequence[float]) -> Median:
    """The median with its interval between order statistics (Thompson 1936)."""
    from scipy.stats import binom

    ordered = sorted(values)
    n = len(ordered)
    rank = 0
    while rank < n // 2 and 2 * float(binom.cdf(rank, n, 0.5)) <= 0.05:
        rank += 1
    middle = statistics.median(ordered)
    if not rank:
        return Median(middle, None, None)
    return Median(middle, ordered[rank - 1], ordered[n - rank])
