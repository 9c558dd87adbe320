"""Sequences of like length together, under a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def by_length(items: Sequence[T], length: Callable[[T], int], budget: int, most: int) -> Iterator[list[T]]:
    """Batches of at most ``most`` items whose padded size (rows × longest) stays within ``budget`` tokens.

    Longest first, so the largest batch comes first and a run that does not fit fails at once.
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
