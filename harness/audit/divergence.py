"""How far an adapter moves a model in a format: the divergence from its base."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.audit.amplified import Pair
from harness.audit.probes import shortest_references, written
from harness.backends.local.engine import longest_packed
from harness.backends.local.forward import forward_of
from harness.backends.local.packing import pack, tensors
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
    rows = [row for case in cases if (row := _row(case, chat_format, pair.tuned)).places]
    if not rows:
        raise HarnessError(f"no reference can be written in format {chat_format.id}")
    ours = _logits(pair.tuned, rows)
    with pair.base() as base:
        theirs = _logits(base, rows)
    values = [_divergence(*both) for both in zip(ours, theirs, strict=True)]
    if not all(math.isfinite(each) for some in values for each in some):
        raise HarnessError("a log-probability is NaN or infinite", where=pair.tuned.name)
    first = [some[0] for some in values]
    along = [sum(some) / len(some) for some in values]
    return Depth(chat_format.id, median(first), median(along), len(first))


def references() -> list[Case]:
    """The questions along whose references the divergence is measured."""
    return shortest_references(REFERENCES)


@dataclass(frozen=True, slots=True)
class _Row:
    """A question and the beginning of its answer as ids, and the places before the answer's."""

    ids: tuple[int, ...]
    places: tuple[int, ...]


def _row(case: Case, chat_format: Format, loaded: LoadedModel) -> _Row:
    answer = Message("assistant", case.reference or "")
    answered = replace(case.conversation, messages=(*case.messages, answer))
    text = written(answered, chat_format, loaded.tokenizer, as_prompt=False)
    encoded = encode(text, loaded.tokenizer)
    predicted = [at for at, content in enumerate(encoded.content) if content and at][:MOST_TOKENS]
    before = tuple(at - 1 for at in predicted)
    return _Row(encoded.ids[: before[-1] + 1] if before else (), before)


def _divergence(ours: torch.Tensor, theirs: torch.Tensor) -> list[float]:
    """KL(adapter‖base) at each token, from logits [tokens, vocabulary]."""
    p, q = (logits.double().log_softmax(-1) for logits in (ours, theirs.to(ours.device)))
    found: list[float] = (p.exp() * (p - q)).sum(-1).tolist()
    return found


def _logits(loaded: LoadedModel, rows: Sequence[_Row]) -> list[torch.Tensor]:
    """The logits at the places of each row, [places, vocabulary].

    Rows that begin alike share a pass, if the model takes them so.
    """
    import torch

    longest = max(len(row.ids) for row in rows)
    with loaded.inference():
        if longest > longest_packed(loaded):
            return [logits_at([row.ids], [row.places], loaded)[0] for row in rows]
        passes = forward_of(loaded, longest)
        found: dict[int, torch.Tensor] = {}
        for tree in pack([[row.ids] for row in rows]):
            ids, positions, bias = tensors([tree], loaded.torch_dtype, loaded.device)
            wanted = [
                [path[at] for at in rows[number].places]
                for number, (path,) in zip(tree.groups, tree.paths, strict=True)
            ]
            flat = torch.tensor([at for some in wanted for at in some], device=ids.device)
            logits = passes.packs(ids, positions, bias, flat)
            parts = torch.split(logits, [len(some) for some in wanted])
            found |= dict(zip(tree.groups, parts, strict=True))
        return [found[number] for number in range(len(rows))]


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
