"""Which format an example wears in an epoch: a pure function of (seed, epoch, example)."""

from __future__ import annotations

import random
from typing import Literal

Policy = Literal["balanced", "uniform", "weighted", "fixed", "all"]


def draw_formats(policy: Policy, formats: int, examples: int, epoch: int, seed: int) -> list[tuple[int, int]]:
    """The (example, format) pairs of one epoch, in training order.

    balanced: in each block of F epochs every example meets every format once, and within an epoch the
    formats are used equally often (give or take one). uniform: each example draws at random. all:
    every pair in every epoch.
    """
    order = random.Random(f"{seed}/order/{epoch}")
    if policy == "all":
        pairs = [(example, format) for example in range(examples) for format in range(formats)]
    elif policy == "uniform":
        pairs = [(example, order.randrange(formats)) for example in range(examples)]
    else:
        block, turn = divmod(epoch, formats)
        deal = random.Random(f"{seed}/deal/{block}")
        hands = deal.sample(range(formats), formats)
        seats = deal.sample(range(examples), examples)
        pairs = [(example, hands[(seats[example] + turn) % formats]) for example in range(examples)]
    order.shuffle(pairs)
    return pairs
