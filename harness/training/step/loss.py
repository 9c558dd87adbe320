"""What a step minimises: a sum over the supervised tokens of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from harness.backends.local.padded import pad
from harness.models.logits import only_at
from harness.records import Encoded
from harness.training.data.examples import Example

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.training.step.handwritten.decoder import HandwrittenDecoder
    from harness.training.step.handwritten.packed_rows import PackedRows


@dataclass(slots=True)
class Tally:
    """Adds up loss and accuracy of a step's supervised tokens by format and by part.

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
        return self._means(lambda example: [(example.format, example.supervised)])

    def by_part(self) -> dict[str, dict[str, float]]:
        """The same by what the tokens are: answers, thoughts, calls and stop, those that occur."""
        return self._means(lambda example: example.parts)

    def _means(
        self, runs_of: Callable[[Example], Sequence[tuple[str, int]]]
    ) -> dict[str, dict[str, float]]:
        """Counts with means, by the names of each example's runs of tokens."""
        import torch

        sums: dict[str, list[float]] = {}
        for batch, values in self.parts:
            runs = [run for example in batch for run in runs_of(example)]
            if not runs:  # of rows that were not encoded here no part is known
                continue
            pieces = torch.split(values.cpu(), [size for _, size in runs], dim=1)
            for (name, size), piece in zip(runs, pieces, strict=True):
                total = sums.setdefault(name, [0.0, 0.0, 0.0])
                for index, value in enumerate((size, *piece.sum(1).tolist())):
                    total[index] += value
        return {
            name: {"tokens": int(n), "loss": loss / n, "accuracy": right / n}
            for name, (n, loss, right) in sorted(sums.items())
        }


class Objective(Protocol):
    """A loss in nats, summed over the supervised tokens of a batch by their weights.

    So a step may be cut into any batches. An objective adds its tokens to the tally, if there is
    one. An objective with an attribute ``handwritten`` that is true uses the hand-written decoder
    where that can run the model, as ``supervised_loss`` does.
    """

    def __call__(
        self, loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None
    ) -> torch.Tensor: ...


def uses_handwritten(objective: Objective) -> bool:
    """Whether an objective computes its passes by the hand-written decoder where that can run."""
    return objective is supervised_loss or bool(getattr(objective, "handwritten", False))


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
    found = handwritten(loaded, batch)
    if found is None:
        return plain_losses(loaded, batch)
    decoder, rows = found
    return decoder.losses(rows)


def handwritten(
    loaded: LoadedModel, batch: Sequence[Example]
) -> tuple[HandwrittenDecoder, PackedRows] | None:
    """The hand-written decoder and a batch laid out for it, or None where it cannot train."""
    from harness.training.step.handwritten.decoder import find_decoder
    from harness.training.step.handwritten.packed_rows import lay_out

    decoder = find_decoder(loaded, max(example.encoded.tokens_read for example in batch))
    if decoder is None:
        return None
    return decoder, lay_out(batch, loaded.tokenizer.pad_token_id or 0, loaded.device)


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

    Inside ``packing_rows`` rows that it takes are laid end to end, others are padded on the right.
    No attention mask is given to padded ones: under a causal mask no real token ever sees the
    padding, and the fast attention kernels stay in use.
    """
    import torch

    from harness.training.step.row_attention import own_attention
    from harness.training.step.row_packing import packed_logits

    used = [encoded.ids[: encoded.tokens_read] for encoded in rows]
    packing = loaded.packing
    packed = packing is not None and packing.takes([*map(len, used)])
    width = max(map(len, used))
    starts = accumulate(map(len, used), initial=0) if packed else range(0, len(used) * width, width)
    predicted = [
        (start + at, token)
        for start, encoded in zip(starts, rows, strict=False)
        for at, token in encoded.predicted
    ]
    places = [place for place, _ in predicted]
    targets = torch.tensor([token for _, token in predicted]).to(loaded.device)
    with loaded.autocast():
        if packed:
            bounds = packing.bounds([*map(len, used)], loaded.device)
            return packed_logits(loaded, used, places, bounds), targets
        ids, _ = pad(used, loaded, left=False)
        with own_attention(), only_at(loaded.model, torch.tensor(places).to(ids.device)):
            return loaded.model(input_ids=ids, use_cache=False).logits[0], targets
