"""What a step minimises: a sum over the supervised tokens of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from harness.backends.local.padded import pad
from harness.models.logits import only_at
from harness.records import Encoded
from harness.training.data.examples import Example

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel


@dataclass(slots=True)
class Tally:
    """Adds up loss and accuracy of a step's supervised tokens by format.

    The sums stay on the device until they are asked for.
    """

    parts: list[tuple[list[Example], torch.Tensor]] = field(default_factory=list)

    def add(self, batch: Sequence[Example], nll: torch.Tensor, correct: torch.Tensor) -> None:
        """Add a batch: each supervised token's loss in nats, and whether it was the likeliest."""
        import torch

        values = torch.stack([nll.detach().double(), correct.detach().double()])
        self.parts.append((list(batch), values))

    def by_format(self) -> dict[str, dict[str, float]]:
        """``{"chatml": {"tokens": 40, "loss": 1.2, "accuracy": 0.6}, …}``, by format id."""
        import torch

        sums: dict[str, list[float]] = {}
        for batch, values in self.parts:
            sizes = [example.supervised for example in batch]
            parts = torch.split(values.cpu(), sizes, dim=1)
            for example, part in zip(batch, parts, strict=True):
                total = sums.setdefault(example.format, [0.0, 0.0, 0.0])
                for index, value in enumerate((part.shape[1], *part.sum(1).tolist())):
                    total[index] += value
        return {
            format_id: {"tokens": int(n), "loss": loss / n, "accuracy": right / n}
            for format_id, (n, loss, right) in sorted(sums.items())
        }


class Objective(Protocol):
    """A loss in nats, summed over the supervised tokens of a batch by their weights.

    So a step may be cut into any batches. An objective adds its tokens to the tally, if there is
    one.
    """

    def __call__(
        self, loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None
    ) -> torch.Tensor: ...


def supervised_loss(
    loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None
) -> torch.Tensor:
    """Cross-entropy in nats over the supervised tokens of a batch, summed by their weights."""
    nll, correct = token_losses(loaded, batch)
    return summed(batch, nll, correct, tally)


def summed(
    batch: Sequence[Example], losses: torch.Tensor, correct: torch.Tensor, tally: Tally | None
) -> torch.Tensor:
    """Sum the losses of a batch's supervised tokens by their weights, and add them to the tally."""
    import torch

    if tally is not None:
        tally.add(batch, losses, correct)
    if not any(example.encoded.weights for example in batch):
        return losses.sum()
    weights = torch.tensor(
        [weight for example in batch for weight in example.encoded.supervised()],
        device=losses.device,
    )
    return (losses * weights).sum()


def token_losses(
    loaded: LoadedModel, batch: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy in nats of each supervised token, in order, and whether it was the likeliest.

    Uses the hand-written decoder where it can run the model, else transformers and peft.
    """
    from harness.training.step.handwritten.decoder import find_decoder
    from harness.training.step.handwritten.packed_rows import lay_out, tokens_needed

    decoder = find_decoder(loaded, max(map(tokens_needed, batch)))
    if decoder is None:
        return plain_losses(loaded, batch)
    return decoder.losses(lay_out(batch, loaded.tokenizer.pad_token_id or 0))


def plain_losses(
    loaded: LoadedModel, batch: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``token_losses``, for any model, through transformers and peft."""
    import torch

    logits, targets = supervised_logits(loaded, [example.encoded for example in batch])
    losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    return losses, logits.detach().argmax(-1) == targets


def supervised_logits(
    loaded: LoadedModel, rows: Sequence[Encoded]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits before each trained token, [tokens, vocabulary], and those tokens, [tokens].

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
