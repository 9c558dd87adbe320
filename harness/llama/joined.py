"""Linear layers that read the same input, as one: what training and inference do alike with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.llama.parts import Projection


def joined_bias(parts: Sequence[Projection], dtype: torch.dtype) -> Tensor | None:
    """The biases of all, side by side; zeros for a part without one, None if none has one."""
    if all(part.bias is None for part in parts):
        return None
    return torch.cat([part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias.detach() for part in parts]).to(dtype)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None, add_to: Tensor | None) -> Tensor:
    """x Wᵀ + b, plus ``add_to`` if given: [tokens, in] → [tokens, out]. A residual is added by the product itself."""
    if add_to is None:
        return linear(x, weight, bias)
    out = torch.addmm(add_to, x, weight.t())
    if bias is not None:
        out += bias
    return out
