"""Batches hold every item once, stay within the budget, and the cheapest cut is found."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.backends.local.batches import by_length, least_padding

lengths = st.lists(st.integers(1, 90), max_size=9)


def same(length: int) -> int:
    return length


def cost(batches: list[list[int]], call: int) -> int:
    return sum(max(batch) * len(batch) + call for batch in batches)


@given(lengths, st.integers(1, 300))
def test_every_item_once_within_the_budget(items, budget):
    for batches in (list(by_length(items, same, budget, 4)), least_padding(items, same, budget)):
        assert sorted(item for batch in batches for item in batch) == sorted(items)
        assert all(len(batch) == 1 or max(batch) * len(batch) <= budget for batch in batches)


@given(lengths, st.integers(20, 300), st.integers(0, 60))
def test_no_cut_of_the_sorted_items_costs_less(items, budget, call):
    found = cost(least_padding(items, same, budget, call), call)
    ordered = sorted(items, reverse=True)
    for count in range(len(ordered)):
        for cuts in combinations(range(1, len(ordered)), count):
            edges = [0, *cuts, len(ordered)]
            batches = [ordered[a:b] for a, b in pairwise(edges)]
            if all(len(batch) == 1 or max(batch) * len(batch) <= budget for batch in batches):
                assert found <= cost(batches, call)
