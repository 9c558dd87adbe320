"""The next token of each row: the likeliest, or one sampled with noise of the row's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Likeliest tokens that are sorted at first; where they do not hold top_p, all tokens are sorted.
_FIRST = 256
#: Logits of a row whose highest is found at once.
_BLOCK = 128


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. ``top_k`` 0 and ``top_p`` 1 cut nothing; both work as in transformers.

    The noise of a row depends on ``seed`` and the token's index only, not on the rest of the batch.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise ValueError(
                "expected temperature > 0, 0 < top_p <= 1 and top_k >= 0, "
                f"not {self.temperature}, {self.top_p} and {self.top_k}"
            )

    def noise(self, index: int) -> float:
        """A number in [0, 1) for the token at ``index``."""
        digest = hashlib.blake2b(f"{self.seed}:{index}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53


def seed_of(*facts: object) -> int:
    """A seed from what identifies a sample, such as (seed, case, format, number)."""
    text = "\0".join(map(str, facts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def choose(
    logits: torch.Tensor, samplings: Sequence[Sampling | None], indices: Sequence[int]
) -> list[int | None]:
    """The next id of each row of ``logits`` [rows, vocabulary], None where they are not finite.

    It is the likeliest where the row's sampling is None. ``indices`` are the numbers of tokens that
    the rows already have.
    """
    import torch

    best = likeliest(logits)
    highest = logits[range(len(best)), best]  # NaN, +inf or −inf if any logit is, or all are
    finite = torch.isfinite(highest).tolist()
    chosen = [token if usable else None for token, usable in zip(best, finite, strict=True)]
    samplings = [s if usable else None for s, usable in zip(samplings, finite, strict=True)]
    if logits.device.type == "mps":
        logits = logits.cpu()  # sampling needs float64, which Apple's GPUs lack
    for cut in (False, True):
        rows = [
            (at, s)
            for at, s in enumerate(samplings)
            if s is not None and cut == bool(s.top_k or s.top_p < 1)
        ]
        if rows:
            ids = (_sample_from_some if cut else _sample_from_all)(
                logits[[at for at, _ in rows]],
                [s for _, s in rows],
                [indices[at] for at, _ in rows],
            )
            for (at, _), token in zip(rows, ids, strict=True):
                chosen[at] = token
    return chosen


def likeliest(logits: torch.Tensor) -> list[int]:
    """The id of the highest logit in each row, the first of equal ones.

    Computed by blocks: on a CPU ``argmax`` over a row takes five times as long as reading it,
    ``amax`` over blocks does not.
    """
    import torch

    size = logits.shape[1] // _BLOCK * _BLOCK
    parts = [
        logits[:, :size].reshape(len(logits), size // _BLOCK, _BLOCK).amax(-1),
        *([logits[:, size:].amax(-1, keepdim=True)] if size < logits.shape[1] else []),
    ]
    ids = torch.cat(parts, 1).argmax(-1, keepdim=True) * _BLOCK + torch.arange(
        _BLOCK, device=logits.device
    )
    ids.clamp_(max=logits.shape[1] - 1)
    found: list[int] = (
        ids.gather(1, logits.gather(1, ids).argmax(-1, keepdim=True)).flatten().tolist()
    )
    return found


def _sample_from_all(
    logits: torch.Tensor, samplings: Sequence[Sampling], indices: Sequence[int]
) -> list[int]:
    """Sample by inverting the distribution function, tokens in the vocabulary's order."""
    return [
        min(at, logits.shape[1] - 1)
        for at in _inverted(_scaled(logits, samplings).double().softmax(-1), samplings, indices)
    ]


def _sample_from_some(
    logits: torch.Tensor, samplings: Sequence[Sampling], indices: Sequence[int], first: int = _FIRST
) -> list[int]:
    """The same over the tokens that top_k and top_p leave, likeliest first."""
    import torch

    scores = _scaled(logits, samplings)
    most = torch.tensor(
        [s.top_k or scores.shape[1] for s in samplings], device=logits.device
    ).unsqueeze(1)
    wanted = torch.tensor(
        [s.top_p for s in samplings], dtype=torch.double, device=logits.device
    ).unsqueeze(1)
    size = min(scores.shape[1], max(first, *(s.top_k for s in samplings)))
    top, ids = scores.topk(size)
    left = torch.arange(size, device=logits.device) < most
    top = top.double().masked_fill(~left, float("-inf"))
    whole = torch.where(
        most <= size, top.logsumexp(-1, keepdim=True), scores.double().logsumexp(-1, keepdim=True)
    )
    probabilities = (top - whole).exp()
    before = probabilities.cumsum(-1) - probabilities
    if size < scores.shape[1] and bool(
        ((most > size) & (before[:, -1:] + probabilities[:, -1:] < wanted)).any()
    ):
        return _sample_from_some(logits, samplings, indices, scores.shape[1])
    # the smallest set that holds top_p stays
    kept = probabilities.masked_fill((before >= wanted) & (wanted < 1), 0.0)
    last = (kept > 0).sum(-1).tolist()
    places = [
        min(at, end - 1) for at, end in zip(_inverted(kept, samplings, indices), last, strict=True)
    ]
    sampled: list[int] = ids[range(len(places)), places].tolist()
    return sampled


def _scaled(logits: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    import torch

    return logits.float() / torch.tensor(
        [s.temperature for s in samplings], device=logits.device
    ).unsqueeze(1)


def _inverted(
    probabilities: torch.Tensor, samplings: Sequence[Sampling], indices: Sequence[int]
) -> list[int]:
    """The index at which each row's noise falls into its weights [rows, tokens]."""
    import torch

    noise = torch.tensor(
        [s.noise(index) for s, index in zip(samplings, indices, strict=True)],
        dtype=torch.double,
        device=probabilities.device,
    ).unsqueeze(1)
    sums = probabilities.cumsum(-1)
    found: list[int] = (sums <= noise * sums[:, -1:]).sum(-1).tolist()
    return found
