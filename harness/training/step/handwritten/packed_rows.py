"""Examples laid end to end: one list of tokens for the products, blocks for attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.local.batches import least_padding
from harness.training.data.examples import Example

if TYPE_CHECKING:
    import torch

    from harness.training.step.row_attention import Bounds

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
    """A batch in that layout: blocks on a CPU, rows by their bounds for FlashAttention's kernel.

    ``wanted`` are the tokens from which a supervised one is predicted, ``targets`` those predicted,
    both in the order of the batch and not of the layout. All tensors are 1-D, on one device.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    layout: tuple[Block, ...] | Bounds
    wanted: torch.Tensor
    targets: torch.Tensor


def lay_out(batch: Sequence[Example], fill: int, device: str = "cpu") -> PackedRows:
    """Lay out a batch. On a CPU rows of similar length come together, padded by ``fill``.

    Nothing depends on ``fill``.
    """
    import torch

    from harness.training.step.row_attention import Bounds

    lengths = [example.encoded.tokens_read for example in batch]
    blocks: list[Block] = []
    groups = [[row] for row in range(len(batch))] if by_bounds(device) else _groups(lengths)
    ids: list[int] = []
    positions: list[int] = []
    start = {}
    for group in groups:
        width = max(lengths[row] for row in group)
        blocks.append(Block(len(ids), len(group), width))
        for row in group:
            start[row] = len(ids)
            ids += [*batch[row].encoded.ids[: lengths[row]], *[fill] * (width - lengths[row])]
            positions += range(width)
    predicted = [
        (start[row] + at, token)
        for row, example in enumerate(batch)
        for at, token in example.encoded.predicted
    ]
    wanted, targets = zip(*predicted, strict=True)
    return PackedRows(
        torch.tensor(ids).to(device),
        torch.tensor(positions).to(device),
        Bounds.of(lengths, device) if by_bounds(device) else tuple(blocks),
        torch.tensor(wanted).to(device),
        torch.tensor(targets).to(device),
    )


def by_bounds(device: str) -> bool:
    """Whether FlashAttention's kernel keeps rows apart."""
    return device != "cpu"


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Rows that share a block, by their numbers."""
    return least_padding(
        range(len(lengths)), lambda row: lengths[row], sum(lengths) * len(lengths), CALL
    )
