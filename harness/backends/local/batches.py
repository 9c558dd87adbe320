"""Batches of sequences of similar length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def by_length(
    items: Sequence[T], length: Callable[[T], int], budget: int, most: int
) -> Iterator[list[T]]:
    """Batches of at most ``most`` items and at most ``budget`` padded tokens (rows × longest).

    The longest items come first, so that a run that does not fit into memory fails at once.
    """
    batch: list[T] = []
    widest = 0
    for item in sorted(items, key=length, reverse=True):
        widest = max(widest, length(item)) if batch else length(item)
        if batch and (len(batch) >= most or widest * (len(batch) + 1) > budget):
            yield batch
            batch, widest = [], length(item)
        batch.append(item)
    if batch:
        yield batch


def least_padding(
    items: Sequence[T], length: Callable[[T], int], budget: int, call: int = 48
) -> list[list[T]]:
    """The cheapest cut into batches of at most ``budget`` padded tokens, longest items first.

    A batch costs its padded tokens plus ``call``: what one more forward and backward pass costs by
    itself, in tokens (measured on SmolLM2-135M, two cores: docs/log.md). An item longer than the
    budget gets its own batch. Exact, by dynamic programming over the sorted items: O(n²).
    """
    ordered = sorted(items, key=length, reverse=True)
    cost = [0.0] + [float("inf")] * len(ordered)
    begin = [0] * (len(ordered) + 1)
    for end in range(1, len(ordered) + 1):
        for start in range(end - 1, -1, -1):
            padded = length(ordered[start]) * (end - start)
            if padded > budget and end - start > 1:
                break
            if cost[start] + padded + call < cost[end]:
                cost[end], begin[end] = cost[start] + padded + call, start
    batches = []
    end = len(ordered)
    while end:
        batches.append(ordered[begin[end] : end])
        end = begin[end]
    return batches[::-1]
