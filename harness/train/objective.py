"""What a step minimises: a sum over the supervised tokens of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from harness.backends.transformers import pad
from harness.logits import only_at
from harness.records import Encoded
from harness.train.examples import Example

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel


class Objective(Protocol):
    """A loss in nats, summed over the supervised tokens of a batch, so that a step may be cut into any batches."""

    def __call__(self, loaded: LoadedModel, batch: Sequence[Example]) -> torch.Tensor: ...


def supervised_loss(loaded: LoadedModel, batch: Sequence[Example]) -> torch.Tensor:
    """Summed cross-entropy in nats over the supervised tokens of a batch."""
    import torch

    logits, targets = supervised_logits(loaded, [example.encoded for example in batch])
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def supervised_logits(loaded: LoadedModel, rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits before each trained token of the rows, [tokens, vocabulary], and those tokens, [tokens].

    Rows are padded on the right and no attention mask is given: under a causal mask no real token
    ever sees the padding, and the fast attention kernels stay in use.
    """
    import torch

    ids, _ = pad([encoded.ids for encoded in rows], loaded, left=False)
    wanted = torch.zeros(ids.shape, dtype=torch.bool)
    for row, encoded in enumerate(rows):
        trained = torch.tensor(encoded.trained[1:], dtype=torch.bool)
        wanted[row, : len(trained)] = trained
    wanted = wanted.to(ids.device)
    with loaded.autocast(), only_at(loaded.model, wanted):
        logits = loaded.model(input_ids=ids, use_cache=False).logits[0]
    return logits, ids[:, 1:][wanted[:, :-1]]
