"""Linear layers that read the same input as one matrix product, with what an adapter adds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.llama.joined import affine, joined_bias
from harness.llama.parts import Projection


class Product:
    """y = x Wᵀ + b + (x Aᵀ) Bᵀ: W and A of all layers stacked, B block by block with the adapter's scale in it. All in ``dtype``."""

    __slots__ = ("bias", "down", "up", "weight")

    def __init__(self, of: Sequence[Projection], dtype: torch.dtype) -> None:
        self.weight = _stacked([layer.weight for layer in of], dtype)
        self.bias = joined_bias(of, dtype)
        self.down = self.up = None
        factors = [(layer.down.detach(), layer.up.detach() * layer.scaling) for layer in of if layer.down is not None and layer.up is not None]
        if factors:
            self.down = _stacked([down for down, _ in factors], dtype)
            ups = iter(up for _, up in factors)
            blocks = [layer.weight.new_zeros(len(layer.weight), 0, dtype=torch.float32) if layer.down is None else next(ups) for layer in of]
            self.up = torch.block_diag(*blocks).to(dtype).t().contiguous()  # type: ignore[no-untyped-call]  # torch

    def __call__(self, x: Tensor, add_to: Tensor | None = None) -> Tensor:
        """[tokens, in] → [tokens, out of all], plus ``add_to`` if given."""
        out = affine(x, self.weight, self.bias, add_to)
        if self.down is not None and self.up is not None:
            out.addmm_(linear(x, self.down), self.up)
        return out


def _stacked(matrices: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """One matrix under the other; a single one that has the dtype is not copied."""
    return matrices[0].to(dtype) if len(matrices) == 1 else torch.cat([matrix.to(dtype) for matrix in matrices])
