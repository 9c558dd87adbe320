"""Final norm, output embedding and cross-entropy, without the logits of a whole batch in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.models.llama.parts import Norm, has_kernels

#: Positions whose logits are held at once: on a CPU in its caches, on a GPU in few kernels.
CHUNK, GPU_CHUNK = 256, 2048
#: The smallest normal float32, in place of a probability that underflows.
_LEAST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """Distributions in place of targets: some tokens, and all others as one outcome.

    They need not sum to 1.
    """

    ids: Tensor
    """[n, k]. A token may occur in several columns, whose probabilities are then added."""
    probabilities: Tensor
    """Of ``ids``, float32 [n, k]."""
    rest: Tensor
    """The probability of all tokens that are not in ``ids``, [n]."""
    hard: Tensor
    """Of the target itself, as an outcome of its own beside these, [n]."""

    def at(self, part: slice) -> SoftLabels:
        """Those of some positions."""
        return SoftLabels(
            self.ids[part], self.probabilities[part], self.rest[part], self.hard[part]
        )


class CrossEntropy(torch.autograd.Function):
    """Hidden states [n, hidden] and targets [n] → cross-entropy in nats, float32 [n].

    With ``soft`` it is −Σ p log q − rest · log q(all other tokens) − hard · log q(target).
    The second result says whether the target was the likeliest token. A token's loss depends on its
    own row alone, so the gradient of the rows is computed in the same pass, while the softmax is in
    memory (as in Liger's kernel, arXiv 2410.10989), and scaled later. The head is frozen.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm: Norm,
        weight: Tensor,
        targets: Tensor,
        soft: SoftLabels | None = None,
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
            correct[part] = likeliest == wanted
            if soft is None:
                losses[part] = summed - logits[place, wanted].float()
                probabilities[place, wanted] -= 1
            else:
                losses[part] = _soft(logits, probabilities, summed, wanted, soft.at(part))
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
            None,
        )


def _soft(
    logits: Tensor, probabilities: Tensor, summed: Tensor, targets: Tensor, soft: SoftLabels
) -> Tensor:
    """The losses of a chunk. ``probabilities`` becomes their gradient by the logits.

    ``summed`` is log Σ exp of the logits. With q(others) for the tokens that are not named and
    every = Σ p + rest + hard, the gradient is every · q − p for a named token and
    (every − rest ∕ q(others)) q for another; of the target ``hard`` is subtracted.
    """
    target = targets.unsqueeze(1)
    named, rest, hard = soft.probabilities.sum(1), soft.rest, soft.hard
    own = probabilities.gather(1, soft.ids)
    others = probabilities.scatter_(1, soft.ids, 0.0).sum(1).clamp(min=_LEAST)
    losses = (named + hard) * summed - rest * others.log()
    losses -= (soft.probabilities * logits.gather(1, soft.ids).float()).sum(1)
    losses -= hard * logits.gather(1, target).squeeze(1).float()
    every = named + rest + hard
    probabilities.mul_((every - rest / others).unsqueeze(1))
    probabilities.scatter_(1, soft.ids, own.mul_(every.unsqueeze(1)))
    probabilities.scatter_add_(1, soft.ids, -soft.probabilities)
    probabilities.scatter_add_(1, target, -hard.unsqueeze(1))
    return losses
