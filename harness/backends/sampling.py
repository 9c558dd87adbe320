"""The next token of each row: the likeliest, or one drawn with noise that belongs to the row alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: So many of the likeliest tokens are sorted at first; if they do not hold a row's top_p, all are.
_FIRST = 256
#: Logits of a row whose highest is looked for at once.
_BLOCK = 128


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw. ``top_k`` 0 and ``top_p`` 1 cut nothing; both mean what they mean in transformers' generate, in its order.

    The noise of a row is a function of ``seed`` and the token's index only, so no other row of the batch has a say in it.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise ValueError(
                f"temperature > 0, 0 < top_p <= 1 and top_k >= 0, not {self.temperature}, {self.top_p} and {self.top_k}"
            )

    def noise(self, index: int) -> float:
        """A number in [0, 1) for the token at ``index``."""
        digest = hashlib.blake2b(f"{self.seed}:{index}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53


def seed_of(*facts: object) -> int:
    """A seed from whatever names a draw, such as (seed, case, format, draw)."""
    return (
        int.from_bytes(
            hashlib.blake2b(
                "\0".join(map(str, facts)).encode("utf-8", "surrogatepass"), digest_size=8
            ).digest(),
            "big",
        )
        >> 1
    )


def choose(
    logits: torch.Tensor, samplings: Sequence[Sampling | None], indices: Sequence[int]
) -> list[int]:
    """The next id of each row of ``logits`` [rows, vocabulary]: the likeliest where its sampling is None, else one drawn.

    ``indices`` are how many tokens each row has already.
    """
    chosen = likeliest(logits)
    if logits.device.type == "mps":
        logits = logits.cpu()  # draws are made in float64, which Apple's GPUs have not
    for cut in (False, True):
        rows = [
            (at, s)
            for at, s in enumerate(samplings)
            if s is not None and cut == bool(s.top_k or s.top_p < 1)
        ]
        if rows:
            ids = (_drawn_from_some if cut else _drawn_from_all)(
                logits[[at for at, _ in rows]],
                [s for _, s in rows],
                [indices[at] for at, _ in rows],
            )
            for (at, _), id in zip(rows, ids, strict=True):
                chosen[at] = id
    return chosen


def likeliest(logits: torch.Tensor) -> list[int]:
    """The id of the highest logit in each row, the first of equal ones.

    By blocks: on a CPU ``argmax`` over a row takes five times as long as reading it, ``amax`` over blocks does not.
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


def _drawn_from_all(
    logits: torch.Tensor, samplings: Sequence[Sampling], indices: Sequence[int]
) -> list[int]:
    """Draws by inverting the distribution function, tokens in the vocabulary's order."""
    return [
        min(at, logits.shape[1] - 1)
        for at in _inverted(_scaled(logits, samplings).double().softmax(-1), samplings, indices)
    ]


def _drawn_from_some(
    logits: torch.Tensor, samplings: Sequence[Sampling], indices: Sequence[int], first: int = _FIRST
) -> list[int]:
    """The same over the likeliest tokens that top_k and top_p leave, likeliest first."""
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
    shares = (top - whole).exp()
    before = shares.cumsum(-1) - shares
    if size < scores.shape[1] and bool(
        ((most > size) & (before[:, -1:] + shares[:, -1:] < wanted)).any()
    ):
        return _drawn_from_some(logits, samplings, indices, scores.shape[1])
    kept = shares.masked_fill(
        (before >= wanted) & (wanted < 1), 0.0
    )  # the smallest set that holds top_p stays
    last = (kept > 0).sum(-1).tolist()
    places = [
        min(at, end - 1) for at, end in zip(_inverted(kept, samplings, indices), last, strict=True)
    ]
    drawn: list[int] = ids[range(len(places)), places].tolist()
    return drawn


def _scaled(logits: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    import torch

    return logits.float() / torch.tensor(
        [s.temperature for s in samplings], device=logits.device
    ).unsqueeze(1)


def _inverted(
    shares: torch.Tensor, samplings: Sequence[Sampling], indices: Sequence[int]
) -> list[int]:
    """Where in each row of weights [rows, tokens] its noise falls."""
    import torch

    noise = torch.tensor(
        [s.noise(index) for s, index in zip(samplings, indices, strict=True)],
        dtype=torch.double,
        device=shares.device,
    ).unsqueeze(1)
    sums = shares.cumsum(-1)
    found: list[int] = (sums <= noise * sums[:, -1:]).sum(-1).tolist()
    return found
