"""Examples laid end to end: one list of tokens for the products, blocks for attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.local.batches import least_padding
from harness.training.data.examples import Example

if TYPE_CHECKING:
    import torch

#: The cost of one more block, in tokens: a few small calls a layer (docs/log.md).
CALL = 4


@dataclass(frozen=True, slots=True)
class Block:
    """``count`` rows of ``width`` tokens from token ``start`` on, padded on the right."""

    start: int
    count: int
    width: int

    @property
    def end(self) -> int:
        """The token after its last one."""
        return self.start + self.count * self.width


@dataclass(frozen=True, slots=True)
class PackedRows:
    """A batch in that layout.

    ``wanted`` are the tokens from which a supervised one is predicted, ``targets`` those predicted,
    both in the order of the batch and not of the layout. All tensors are 1-D, on the CPU.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    blocks: tuple[Block, ...]
    wanted: torch.Tensor
    targets: torch.Tensor


def lay_out(batch: Sequence[Example], fill: int) -> PackedRows:
    """Lay out a batch, rows of similar length together. Nothing depends on ``fill``, which pads."""
    import torch

    groups = least_padding(
        range(len(batch)),
        lambda row: batch[row].encoded.tokens_read,
        sum(example.encoded.tokens_read for example in batch) * len(batch),
        CALL,
    )
    ids: list[int] = []
    positions: list[int] = []
    blocks: list[Block] = []
    start = {}
    for group in groups:
        width = max(batch[row].encoded.tokens_read for row in group)
        blocks.append(Block(len(ids), len(group), width))
        for row in group:
            start[row] = len(ids)
            length = batch[row].encoded.tokens_read
            ids += [*batch[row].encoded.ids[:length], *[fill] * (width - length)]
            positions += range(width)
    wanted = [
        start[row] + at - 1
        for row, example in enumerate(batch)
        for at, trained in enumerate(example.encoded.trained)
        if trained and at
    ]
    targets = [
        token
        for example in batch
        for token, trained in zip(example.encoded.ids[1:], example.encoded.trained[1:], strict=True)
        if trained
    ]
    return PackedRows(
        torch.tensor(ids),
        torch.tensor(positions),
        tuple(blocks),
        torch.tensor(wanted),
        torch.tensor(targets),
    )
