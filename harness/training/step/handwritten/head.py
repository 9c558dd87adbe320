"""Final norm, output embedding and cross-entropy, without the logits of a whole batch in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.models.llama.parts import Norm, has_kernels

#: Positions whose logits are held at once: on a CPU in its caches, on a GPU in few kernels.
CHUNK, GPU_CHUNK = 256, 2048


class CrossEntropy(torch.autograd.Function):
    """Hidden states [n, hidden] and targets [n] → cross-entropy in nats, float32 [n].

    The second result says whether the target was the likeliest token. A token's loss depends on its
    own row alone, so the gradient of the rows is computed in the same pass, while the softmax is in
    memory (as in Liger's kernel, arXiv 2410.10989), and scaled later. The head is frozen.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Norm, weight: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        hidden, inverse = norm.apply(x)
        weight = weight.to(x.dtype)
        grad = torch.empty_like(hidden)
        losses = torch.empty(len(x), device=x.device)
        correct = torch.empty(len(x), dtype=torch.bool, device=x.device)
        chunk = GPU_CHUNK if has_kernels(x) else CHUNK
        at_once = min(chunk, len(hidden))
        room = hidden.new_empty(at_once, len(weight))
        wide_room = torch.empty(at_once, len(weight), device=x.device)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            wanted = targets[part]
            logits = torch.mm(hidden[part], weight.t(), out=room[: len(wanted)])
            probabilities = torch.softmax(
                logits, -1, dtype=torch.float32, out=wide_room[: len(wanted)]
            )
            highest, likeliest = logits.max(-1)
            place = torch.arange(len(logits), device=x.device)
            # log Σ exp: the likeliest token's probability never underflows
            summed = highest.float() - probabilities[place, likeliest].log()
            losses[part] = summed - logits[place, wanted].float()
            correct[part] = likeliest == wanted
            probabilities[place, wanted] -= 1
            torch.mm(probabilities.to(weight.dtype), weight, out=grad[part])
        ctx.norm = norm
        ctx.save_for_backward(x, inverse, grad)
        ctx.mark_non_differentiable(correct)
        return losses, correct

    @staticmethod
    def backward(ctx: Any, scale: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        x, inverse, grad = ctx.saved_tensors
        return (
            ctx.norm.backward(grad, x, inverse).mul_(scale.unsqueeze(-1)).to(x.dtype),
            None,
            None,
            None,
        )
