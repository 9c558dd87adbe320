"""Prefix-tree packing: sequences that begin alike share one row, and each shared token runs once.

A pack is a tree of tokens laid out in one row. A token attends to its ancestors only and its
position is its depth, so the model computes for it what it computes in the plain sequence. A prompt
with four options, or forty questions after one preamble, is run once (tree attention, as in
SpecInfer, arXiv 2305.09781, there for speculative decoding). The model's attention must take our
bias and our positions for that; harness.backends.local.engine finds out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Tokens a pack is filled up to. Wider packs share more, but attention is quadratic in the width.
WIDTH = 256


@dataclass
class Pack:
    """A tree of tokens, as lists by node.

    ``groups`` are the numbers of the groups it holds; ``paths[i][j]`` are the nodes, in order, of
    sequence j of the i-th of them.
    """

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    paths: list[list[list[int]]] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, number: int, sequences: Sequence[Sequence[int]]) -> None:
        """Add a group of sequences, sharing what the pack already holds of their beginnings."""
        self.groups.append(number)
        self.paths.append([self._path(sequence) for sequence in sequences])

    def _path(self, sequence: Sequence[int]) -> list[int]:
        node, path = -1, []
        for depth, token in enumerate(sequence):
            found = self._children.get((node, token))
            if found is None:
                found = len(self.ids)
                self._children[node, token] = found
                self.ids.append(token)
                self.parents.append(node)
                self.depths.append(depth)
            node = found
            path.append(node)
        return path

    def undo(self, size: int) -> None:
        """Remove the last group; ``size`` is the length of the pack before it was added."""
        self.groups.pop()
        self.paths.pop()
        for node in range(size, len(self.ids)):
            del self._children[self.parents[node], self.ids[node]]
        del self.ids[size:], self.parents[size:], self.depths[size:]


def pack(groups: Sequence[Sequence[Sequence[int]]], width: int = WIDTH) -> list[Pack]:
    """Groups of sequences → packs of at most ``width`` tokens.

    A group is never split, and a longer one gets a pack of its own. Groups that begin alike come
    together: they are sorted by their first sequence.
    """
    packs: list[Pack] = []
    current = Pack()
    for number in sorted(range(len(groups)), key=lambda at: list(groups[at][0])):
        size = len(current)
        current.add(number, groups[number])
        if len(current) > width and size:
            current.undo(size)
            packs.append(current)
            current = Pack()
            current.add(number, groups[number])
    return [*packs, current] if current.groups else packs


def tensors(
    packs: Sequence[Pack], dtype: torch.dtype, device: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids and positions, [packs, longest], and the attention bias, [packs, 1, longest, longest].

    The bias is 0 for an ancestor, else −inf. Padding attends to itself, so that nothing divides by
    zero, and nothing attends to it.
    """
    import numpy as np
    import torch

    longest = max(map(len, packs))
    ids = np.zeros((len(packs), longest), dtype=np.int64)
    positions = np.zeros_like(ids)
    sees = np.zeros((len(packs), longest, longest), dtype=bool)
    diagonal = np.arange(longest)
    sees[:, diagonal, diagonal] = True
    for row, tree in enumerate(packs):
        ids[row, : len(tree)] = tree.ids
        positions[row, : len(tree)] = tree.depths
        seen = sees[row]
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
    hidden = torch.from_numpy(~sees).to(device)  # a byte each, and not what the bias takes
    bias = torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
    return (
        torch.from_numpy(ids).to(device),
        torch.from_numpy(positions).to(device),
        bias.unsqueeze(1),
    )
