"""Which formats the rows of an epoch wear: pure functions of (seed, epoch, row), so that a resumed run and every process draw alike."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Policy = Literal["balanced", "uniform", "weighted", "fixed", "all"]
#: (row, format), both as indices.
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows that share a weight, and how many of them are met in an epoch.

    A set of n rows with weight w gives round(w · n) draws, at least one.
    """

    rows: tuple[int, ...]
    draws: int

    @classmethod
    def weighted(cls, rows: Sequence[int], weight: float = 1.0) -> RowSet:
        """A set whose average row is met ``weight`` times an epoch."""
        return cls(tuple(rows), max(1, round(weight * len(rows))))


def epoch_repeats(sets: Sequence[RowSet], epoch: int, seed: int) -> Iterator[tuple[int, int]]:
    """The (row, number of its visit) pairs of an epoch.

    A row's visits before epoch e are ⌊(draws · e + seat) / n⌋, with seats 0 … n−1 dealt at random: every epoch has exactly
    ``draws`` visits (Hermite's identity), and over the run each row gets its share to within one.
    """
    for number, chosen in enumerate(sets):
        size = len(chosen.rows)
        seats = random.Random(f"{seed}/seats/{number}").sample(range(size), size)
        for row, seat in zip(chosen.rows, seats, strict=True):
            begin, end = ((chosen.draws * at + seat) // size for at in (epoch, epoch + 1))
            yield from ((row, visit) for visit in range(begin, end))


def draw_formats(
    policy: Policy,
    weights: Sequence[float],
    sets: Sequence[RowSet],
    names: Sequence[str],
    epoch: int,
    seed: int,
) -> list[Pair]:
    """The (row, format) pairs of one epoch, in training order. One of ``weights`` a format; only "weighted" reads their values.

    balanced: in F visits every row meets every format once, and within an epoch the formats are used equally often (give or
    take one, when no set is weighted). uniform: each visit draws at random. weighted: in proportion to the weights.
    fixed: a row keeps the format that the hash of its name picks, whatever stands beside it. all: each visit meets every format.
    """
    order = random.Random(f"{seed}/order/{epoch}")
    met = list(epoch_repeats(sets, epoch, seed))
    formats = len(weights)
    if policy == "all":
        pairs = [(row, format) for row, _ in met for format in range(formats)]
    elif policy == "uniform":
        pairs = [(row, order.randrange(formats)) for row, _ in met]
    elif policy == "weighted":
        bounds = list(accumulate(weights))
        pairs = [(row, order.choices(range(formats), cum_weights=bounds)[0]) for row, _ in met]
    elif policy == "fixed":
        pairs = [(row, _hashed(names[row], seed) % formats) for row, _ in met]
    else:
        pairs = list(_dealt(met, len(names), formats, seed))
    order.shuffle(pairs)
    return pairs


def _dealt(met: Sequence[tuple[int, int]], rows: int, formats: int, seed: int) -> Iterator[Pair]:
    """Formats in turn: each block of F visits is a new deal, in which rows sit at seats around a ring of formats."""
    deals: dict[int, tuple[list[int], list[int]]] = {}
    for row, visit in met:
        block, turn = divmod(visit, formats)
        if block not in deals:
            deal = random.Random(f"{seed}/deal/{block}")
            deals[block] = deal.sample(range(formats), formats), deal.sample(range(rows), rows)
        hands, seats = deals[block]
        yield row, hands[(seats[row] + turn) % formats]


def _hashed(name: str, seed: int) -> int:
    return int.from_bytes(
        hashlib.blake2b(f"{seed}/{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    )
