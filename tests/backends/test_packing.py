"""A pack holds every sequence, each shared token once; a token attends to its own past only."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.local.packing import pack, tensors

sequences = st.lists(st.integers(0, 3), min_size=1, max_size=7)
groups = st.lists(st.lists(sequences, min_size=1, max_size=4), max_size=8)


@given(groups, st.integers(1, 40))
def test_every_group_whole_and_what_begins_alike_once(groups, width):
    packs = pack(groups, width)
    assert sorted(number for tree in packs for number in tree.groups) == list(range(len(groups)))
    for tree in packs:
        assert len(tree) <= width or len(tree.groups) == 1
        for number, paths in zip(tree.groups, tree.paths, strict=True):
            assert [[tree.ids[node] for node in path] for path in paths] == groups[number]
            assert all(
                [tree.depths[node] for node in path] == list(range(len(path))) for path in paths
            )
        beginnings = {
            tuple(member[: end + 1])
            for number in tree.groups
            for member in groups[number]
            for end in range(len(member))
        }
        assert len(tree) == len(beginnings)


@given(groups.filter(bool), st.integers(1, 40))
def test_a_token_sees_its_past_and_nothing_else(groups, width):
    packs = pack(groups, width)
    ids, positions, bias = tensors(packs, torch.float32, "cpu")
    assert set(bias.unique().tolist()) <= {0.0, float("-inf")}
    for row, tree in enumerate(packs):
        assert (
            ids[row, : len(tree)].tolist() == tree.ids
            and positions[row, : len(tree)].tolist() == tree.depths
        )
        for paths in tree.paths:
            for path in paths:
                for at, node in enumerate(path):
                    assert (bias[row, 0, node] == 0).nonzero().flatten().tolist() == sorted(
                        path[: at + 1]
                    )
        padding = range(len(tree), ids.shape[1])
        assert all((bias[row, 0, at] == 0).nonzero().flatten().tolist() == [at] for at in padding)
