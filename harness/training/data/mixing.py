"""Which formats the rows of an epoch are rendered in.

Pure functions of (seed, epoch, row), so that a resumed run and every process draw alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Policy = Literal["balanced", "uniform", "weighted", "all"]
#: (row, format), both as indices.
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows that share a weight. Each epoch has ``repeats`` repeats of them in all.

    A set of n rows with weight w has round(w · n) repeats, at least one.
    """

    rows: tuple[int, ...]
    repeats: int

    @classmethod
    def weighted(cls, rows: Sequence[int], weight: float = 1.0) -> RowSet:
        """A set whose average row is repeated ``weight`` times an epoch."""
        return cls(tuple(rows), max(1, round(weight * len(rows))))


def draw_formats(
    policy: Policy, weights: Sequence[float], sets: Sequence[RowSet], epoch: int, seed: int
) -> list[Pair]:
    """The (row, format) pairs of one epoch, in training order.

    ``weights`` has one number for each format; only "weighted" reads their values.

    balanced: over F repeats every row is rendered once in each of F formats, and within an epoch
    the formats are used equally often (give or take one, when no set is weighted). uniform: each
    repeat draws at random. weighted: in proportion to the weights. all: every format at each
    repeat.
    """
    order = random.Random(f"{seed}/order/{epoch}")
    repeats = list(epoch_repeats(sets, epoch, seed))
    formats = len(weights)
    if policy == "all":
        pairs = [(row, at) for row, _ in repeats for at in range(formats)]
    elif policy == "uniform":
        pairs = [(row, order.randrange(formats)) for row, _ in repeats]
    elif policy == "weighted":
        bounds = list(accumulate(weights))
        pairs = [(row, order.choices(range(formats), cum_weights=bounds)[0]) for row, _ in repeats]
    else:
        pairs = list(_balanced(repeats, sum(len(chosen.rows) for chosen in sets), formats, seed))
    order.shuffle(pairs)
    return pairs


def epoch_repeats(sets: Sequence[RowSet], epoch: int, seed: int) -> Iterator[tuple[int, int]]:
    """The repeats of an epoch as (row, number of the repeat, counted over the run).

    Before epoch e a row has had ⌊(repeats · e + offset) / n⌋ of them, with the offsets 0 … n−1 in
    random order. So every epoch has exactly ``repeats`` of them (Hermite's identity), and over the
    run each row gets its share to within one.
    """
    for number, chosen in enumerate(sets):
        size = len(chosen.rows)
        offsets = random.Random(f"{seed}/seats/{number}").sample(range(size), size)
        for row, offset in zip(chosen.rows, offsets, strict=True):
            begin, end = ((chosen.repeats * at + offset) // size for at in (epoch, epoch + 1))
            yield from ((row, repeat) for repeat in range(begin, end))


def _balanced(
    repeats: Sequence[tuple[int, int]], rows: int, formats: int, seed: int
) -> Iterator[Pair]:
    """Each row walks through a permutation of the formats from an offset of its own.

    Every block of F repeats has another permutation and other offsets.
    """
    blocks: dict[int, tuple[list[int], list[int]]] = {}
    for row, repeat in repeats:
        block, at = divmod(repeat, formats)
        if block not in blocks:
            draw = random.Random(f"{seed}/deal/{block}")
            blocks[block] = draw.sample(range(formats), formats), draw.sample(range(rows), rows)
        permutation, offsets = blocks[block]
        yield row, permutation[(offsets[row] + at) % formats]
