"""Weights that read the same input as one matrix, without a second copy of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stack_in_place(groups: Sequence[Sequence[torch.nn.Linear]]) -> None:
    """Lay the weights of each group of layers one under the other, and make them views of that.

    The numbers stay, and so does all that the layers do: they compute, are saved, merged and
    adapted as before. Memory grows by one group while it is copied. What is stacked already stays;
    a layer that was moved or given another weight since is stacked again.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        for group in groups:
            weights = [layer.weight for layer in group]
            if adjacent([weight.data for weight in weights]) is not None:
                continue
            whole = torch.cat([weight.data for weight in weights])
            at = 0
            for weight in weights:
                weight.data = whole[at : at + len(weight)]
                at += len(weight)
            del whole
            if weights[0].is_cuda:  # the old ones are of other sizes and would stay reserved
                torch.cuda.empty_cache()


def adjacent(matrices: Sequence[Tensor]) -> Tensor | None:
    """The matrices one under the other, as a view, where they lie in memory that way, else None."""
    first = matrices[0]
    columns = first.shape[1]
    at = first.storage_offset()
    for matrix in matrices:
        if (
            not matrix.is_contiguous()
            or matrix.shape[1] != columns
            or (matrix.dtype, matrix.device) != (first.dtype, first.device)
            or matrix.untyped_storage()._cdata != first.untyped_storage()._cdata
            or matrix.storage_offset() != at
        ):
            return None
        at += matrix.numel()
    return first.as_strided((sum(map(len, matrices)), columns), (columns, 1))
