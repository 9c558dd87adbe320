"""How far two distributions over the vocabulary lie apart, in nats a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from harness.train.targets import Targets


def kullback_leibler(logits: torch.Tensor, targets: Targets, temperature: float = 1.0) -> torch.Tensor:
    """KL(target ‖ softmax(logits / temperature)) at each token, [tokens]; ``logits`` is [tokens, vocabulary].

    All tokens that a target does not name count as one outcome, so this is a lower bound of the divergence of the whole
    distributions (data processing), and equal to it when the target names all. For a certain target it is the
    cross-entropy. float32 throughout, whatever the logits' dtype.
    """
    import torch

    logprobs = torch.log_softmax(logits.float() / temperature, -1)
    named = logprobs.gather(1, targets.ids)
    wanted = targets.probabilities
    divergence = torch.where(targets.used, torch.xlogy(wanted, wanted) - wanted * named, 0.0).sum(1)
    if not bool((targets.rest > 0).any()):
        return divergence
    others = logprobs.scatter(1, targets.ids, -torch.inf).logsumexp(1)
    return divergence + torch.where(targets.rest > 0, torch.xlogy(targets.rest, targets.rest) - targets.rest * others, 0.0)


def jensen_shannon(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """JS of log-probabilities [tokens, vocabulary], all finite, at each token: between 0 and log 2 (Lin 1991, IEEE Trans. Inf. Theory 37)."""
    import math

    import torch

    middle = torch.logaddexp(first, second) - math.log(2)
    return ((first.exp() * (first - middle)).sum(1) + (second.exp() * (second - middle)).sum(1)) / 2
