"""What a step minimises: a sum over the supervised tokens of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from harness.backends.transformers import pad
from harness.logits import only_at
from harness.train.examples import Example

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel


@dataclass(slots=True)
class Tally:
    """Counts a step's supervised tokens by format, beside the loss. It stays on the device until it is asked for."""

    parts: list[tuple[list[Example], torch.Tensor]] = field(default_factory=list)

    def add(self, batch: Sequence[Example], nll: torch.Tensor, correct: torch.Tensor) -> None:
        """The loss in nats of each supervised token of a batch, in order, and whether it was the likeliest one."""
        import torch

        self.parts.append((list(batch), torch.stack([nll.detach().double(), correct.detach().double()])))

    def by_format(self) -> dict[str, dict[str, float]]:
        """``{"chatml": {"tokens": 40, "loss": 1.2, "accuracy": 0.6}, …}``; empty when the objective counts nothing."""
        import torch

        sums: dict[str, list[float]] = {}
        for batch, values in self.parts:
            for example, part in zip(batch, torch.split(values.cpu(), [example.supervised for example in batch], dim=1), strict=True):
                kept = sums.setdefault(example.format, [0.0, 0.0, 0.0])
                for index, value in enumerate((part.shape[1], *part.sum(1).tolist())):
                    kept[index] += value
        return {format: {"tokens": int(n), "loss": loss / n, "accuracy": right / n} for format, (n, loss, right) in sorted(sums.items())}


class Objective(Protocol):
    """A loss in nats, summed over the supervised tokens of a batch, so that a step may be cut into any batches.

    Each token counts by its weight (``Encoded.weights``). An objective may add what it saw to the tally.
    """

    def __call__(self, loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None) -> torch.Tensor: ...


def supervised_loss(loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None) -> torch.Tensor:
    """Cross-entropy in nats over the supervised tokens of a batch, summed by their weights."""
    import torch

    nll, correct = token_losses(loaded, batch)
    if tally is not None:
        tally.add(batch, nll, correct)
    if not any(example.encoded.weights for example in batch):
        return nll.sum()
    weights = torch.tensor([weight for example in batch for weight in example.encoded.supervised()], device=nll.device)
    return (nll * weights).sum()


def token_losses(loaded: LoadedModel, batch: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy in nats of each supervised token of a batch, float32 in its order, and whether it was the likeliest one.

    Rows are padded on the right and no attention mask is given: under a causal mask no real token
    ever sees the padding, and the fast attention kernels stay in use.
    """
    import torch

    ids, _ = pad([example.encoded.ids for example in batch], loaded, left=False)
    wanted = torch.zeros(ids.shape, dtype=torch.bool)
    for row, example in enumerate(batch):
        trained = torch.tensor(example.encoded.trained[1:], dtype=torch.bool)
        wanted[row, : len(trained)] = trained
    wanted = wanted.to(ids.device)
    targets = ids[:, 1:][wanted[:, :-1]]
    with loaded.autocast(), only_at(loaded.model, wanted):
        logits = loaded.model(input_ids=ids, use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none"), logits.detach().argmax(-1) == targets
