"""The hand-written decoder: whether it can train a model, and its pass over a batch."""

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
    """A model's parts, computed in ``matmul_dtype``, whatever the weights are stored in."""

    parts: DecoderParts
    matmul_dtype: torch.dtype

    def losses(self, rows: PackedRows) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats of each supervised token, and whether it was the likeliest one.

        Both are in the order of the batch, the loss in float32.
        """
        hidden = self._hidden(rows)
        losses, correct = CrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch
            hidden, self.parts.norm, self.parts.head, rows.targets
        )
        return losses, correct

    def _hidden(self, rows: PackedRows) -> Tensor:
        """The last layer's output where a supervised token is predicted, [n, hidden]."""
        x = embedding(rows.ids, self.parts.embedding).to(self.matmul_dtype)
        cos, sin = (
            angle.transpose(0, 1) for angle in self.parts.rotary(x, rows.positions.unsqueeze(0))
        )
        for layer in self.parts.layers:
            wanted = rows.wanted if layer is self.parts.layers[-1] else None
            layout = Layout(rows.blocks, cos, sin, wanted)
            x = LayerFunction.apply(  # type: ignore[no-untyped-call]  # torch
                x, layer, layout, *layer.parameters()
            )
        return x


def find_decoder(loaded: LoadedModel, longest: int) -> HandwrittenDecoder | None:
    """The hand-written decoder of a model, or None where it cannot train it.

    That is where a part is not plain (``take_apart``) or where more than LoRA factors is trained.
    """
    parts = take_apart(loaded, longest)
    if parts is None:
        return None
    known = {id(parameter) for layer in parts.layers for parameter in layer.parameters()}
    trained = {id(parameter) for parameter in loaded.model.parameters() if parameter.requires_grad}
    return HandwrittenDecoder(parts, matmul_dtype(loaded)) if trained == known else None
