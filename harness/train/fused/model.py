"""A model taken apart for the fused decoder, and its pass over a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding

from harness.train.fused.head import CrossEntropy
from harness.train.fused.layer import Decode, Layer, Norm, Place
from harness.train.fused.rows import Rows


@dataclass(frozen=True, slots=True)
class Decoder:
    """Embedding, layers, final norm and output embedding. ``rotary`` gives the rotation of each position, as transformers does.

    Everything is computed in ``products_in``, whatever the weights are stored in (harness.backends.arithmetic).
    """

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Norm
    head: Tensor
    rotary: torch.nn.Module
    products_in: torch.dtype

    def losses(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats of each supervised token, float32 in the order of the batch, and whether it was the likeliest one."""
        return CrossEntropy.apply(self._hidden(rows), self.norm, self.head, rows.targets)  # type: ignore[no-any-return,no-untyped-call]  # torch

    def _hidden(self, rows: Rows) -> Tensor:
        """What the last layer gives where a supervised token is predicted, [n, hidden], before the final norm."""
        x = embedding(rows.ids, self.embedding).to(self.products_in)
        cos, sin = (turn.transpose(0, 1) for turn in self.rotary(x, rows.positions.unsqueeze(0)))
        for layer in self.layers:
            asked = rows.wanted if layer is self.layers[-1] else None
            x = Decode.apply(x, layer, Place(rows.blocks, cos, sin, asked), *layer.parameters())  # type: ignore[no-untyped-call]  # torch
        return x
