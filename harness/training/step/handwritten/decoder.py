"""A model taken apart for the fused decoder, and its pass over a batch.

Whether the fused decoder trains what is to be trained. Everything else trains through transformers and peft.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding

from harness.models.device import matmul_dtype
from harness.models.llama.parts import DecoderParts
from harness.models.llama.recognise import take_apart
from harness.training.step.handwritten.head import CrossEntropy
from harness.training.step.handwritten.layer import LayerFunction, Layout
from harness.training.step.handwritten.packed_rows import PackedRows

if TYPE_CHECKING:
    from harness.models import LoadedModel


@dataclass(frozen=True, slots=True)
class HandwrittenDecoder:
    """The passes of training over a model's parts.

    Everything is computed in ``products_in``, whatever the weights are stored in (harness.backends.local.forward).
    """

    parts: DecoderParts
    matmul_dtype: torch.dtype

    def losses(self, rows: PackedRows) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats of each supervised token, float32 in the order of the batch, and whether it was the likeliest one."""
        return CrossEntropy.apply(
            self._hidden(rows), self.parts.norm, self.parts.head, rows.targets
        )  # type: ignore[no-any-return,no-untyped-call]  # torch

    def _hidden(self, rows: PackedRows) -> Tensor:
        """What the last layer gives where a supervised token is predicted, [n, hidden], before the final norm."""
        x = embedding(rows.ids, self.parts.embedding).to(self.matmul_dtype)
        cos, sin = (
            turn.transpose(0, 1) for turn in self.parts.rotary(x, rows.positions.unsqueeze(0))
        )
        for layer in self.parts.layers:
            asked = rows.wanted if layer is self.parts.layers[-1] else None
            x = LayerFunction.apply(x, layer, Layout(rows.blocks, cos, sin, asked), *layer.parameters())  # type: ignore[no-untyped-call]  # torch
        return x


def find_decoder(loaded: LoadedModel, longest: int) -> HandwrittenDecoder | None:
    """The model as a fused decoder, or None if a part is not plain (``take_apart``) or anything but its LoRA factors is trained."""
    parts = take_apart(loaded, longest)
    if parts is None:
        return None
    known = {id(parameter) for layer in parts.layers for parameter in layer.parameters()}
    trained = {id(parameter) for parameter in loaded.model.parameters() if parameter.requires_grad}
    return HandwrittenDecoder(parts, matmul_dtype(loaded)) if trained == known else None
