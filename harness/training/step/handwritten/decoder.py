"""The hand-written decoder: whether it can train a model, and its pass over a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding

from harness.models.device import matmul_dtype
from harness.models.llama.parts import DecoderParts
from harness.models.llama.recognise import inputs_in_common, recomputes, take_apart
from harness.models.llama.stacked_weights import stack_in_place
from harness.training.step.handwritten.gpu_projection import group_projections
from harness.training.step.handwritten.head import CrossEntropy, SoftLabels
from harness.training.step.handwritten.layer import (
    SHARED_INPUT,
    LayerFunction,
    Layout,
    LinearGroup,
)
from harness.training.step.handwritten.packed_rows import PackedRows, by_bounds
from harness.training.step.handwritten.projection import StackedProjection
from harness.training.step.row_attention import Bounds

if TYPE_CHECKING:
    from harness.models import LoadedModel


@dataclass(frozen=True, slots=True)
class HandwrittenDecoder:
    """A model's parts, computed in ``matmul_dtype``, whatever the weights are stored in.

    With ``recompute`` a layer keeps its input alone for the backward pass.
    """

    parts: DecoderParts
    matmul_dtype: torch.dtype
    recompute: bool = False

    @property
    def vocabulary(self) -> int:
        """The width of the logits."""
        return len(self.parts.head)

    def losses(self, rows: PackedRows, soft: SoftLabels | None = None) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats of each supervised token, and whether it was the likeliest one.

        Both are in the order of the batch, the loss in float32. ``soft`` replaces the tokens by
        distributions.
        """
        hidden = self._hidden(rows)
        losses, correct = CrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch
            hidden, self.parts.norm, self.parts.head, rows.targets, soft
        )
        return losses, correct

    def _hidden(self, rows: PackedRows) -> Tensor:
        """The last layer's output where a supervised token is predicted, [n, hidden]."""
        x = embedding(rows.ids, self.parts.embedding).to(self.matmul_dtype)
        cos, sin = (
            angle.transpose(0, 1) for angle in self.parts.rotary(x, rows.positions.unsqueeze(0))
        )
        layers = self.parts.layers
        for layer, groups in zip(layers, self._groups(rows), strict=True):
            wanted = rows.wanted if layer is layers[-1] else None
            layout = Layout(rows.layout, cos, sin, wanted)
            x = LayerFunction.apply(  # type: ignore[no-untyped-call]  # torch
                x, layer, layout, groups, self.recompute, *layer.parameters()
            )
        return x

    def _groups(self, rows: PackedRows) -> Iterable[Sequence[LinearGroup]]:
        """The projections of each layer, by what they read."""
        if isinstance(rows.layout, Bounds):
            return group_projections(self.parts.layers, SHARED_INPUT, self.matmul_dtype)
        return (
            [StackedProjection(layer.projections[g], self.matmul_dtype) for g in SHARED_INPUT]
            for layer in self.parts.layers
        )


def find_decoder(loaded: LoadedModel, longest: int) -> HandwrittenDecoder | None:
    """The hand-written decoder of a model, or None where it cannot train it.

    That is where a part is not plain (``take_apart``) or where more than LoRA factors is trained.
    """
    parts = take_apart(loaded, longest, training=True)
    if parts is None:
        return None
    known = {id(parameter) for layer in parts.layers for parameter in layer.parameters()}
    trained, recompute = _state(loaded.model)
    if trained != known or (by_bounds(loaded.device) and not _scaled_alike(parts)):
        return None
    return HandwrittenDecoder(parts, matmul_dtype(loaded), recompute)


def _state(model: torch.nn.Module) -> tuple[set[int], bool]:
    """The ids of the parameters that are trained, and whether gradient checkpointing is on.

    Both in one walk over the modules, since this is asked twice a step.
    """
    trained: set[int] = set()
    recompute = False
    for module in model.modules():
        recompute = recompute or recomputes(module)
        trained.update(
            id(parameter)
            for parameter in module._parameters.values()
            if parameter is not None and parameter.requires_grad
        )
    return trained, recompute


def stack_weights(loaded: LoadedModel) -> None:
    """Lay weights that read the same input together, where a GPU then multiplies them as one.

    Once, before training; nothing is copied for good, and the numbers stay.
    """
    quantised = bool(loaded.quantisation)
    if by_bounds(loaded.device) and not quantised and find_decoder(loaded, 1) is not None:
        stack_in_place(inputs_in_common(loaded))


def _scaled_alike(parts: DecoderParts) -> bool:
    """Whether all factors have one scaling, as GroupProjection needs it."""
    projections = (projection for layer in parts.layers for projection in layer.projections)
    return len({each.scaling for each in projections if each.parameters()}) <= 1
