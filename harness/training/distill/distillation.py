"""Format distillation: in every format the model answers as the base does in its native one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.training.config import ObjectiveConfig
from harness.training.distill.native_rows import NativeRows
from harness.training.distill.soft_targets import (
    Targets,
    entropy,
    hard_targets,
    kullback_leibler,
    soft_targets,
)
from harness.training.distill.teacher import Teacher, base_teacher
from harness.training.step.loss import Tally, handwritten, summed, supervised_logits

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.training.data.examples import Example
    from harness.training.step.handwritten.decoder import HandwrittenDecoder
    from harness.training.step.handwritten.packed_rows import PackedRows


class Distillation:
    """Knowledge distillation with the base model as its own teacher (arXiv 1503.02531).

    The loss of an answer token is KL(teacher ‖ student) times temperature². The teacher reads the
    same conversation in the native format; by default it is the base without adapter.
    ``supervised`` are the ids of conversations whose given answers are learnt as well: there the
    loss is (1 − supervised_weight) · KL + supervised_weight · cross-entropy, both sums over the
    same tokens. ``unfinished`` are those whose last answer was cut. They teach only the teacher's
    distribution, which at the cut is to continue, and no hard targets, such as the rest of a stop
    that the text has only because it was cut.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rows: NativeRows,
        config: ObjectiveConfig,
        supervised: frozenset[str] = frozenset(),
        unfinished: frozenset[str] = frozenset(),
        teacher: Teacher | None = None,
    ) -> None:
        self.rows = rows
        self.config = config
        self.unfinished = unfinished
        self.supervised = supervised if config.supervised_weight else frozenset()
        only_supervised = self.supervised if config.supervised_weight == 1 else frozenset()
        self.native = {
            conversation: rows.encoded(conversation)
            for conversation in rows.conversations
            if conversation not in only_supervised
        }
        teacher = teacher or base_teacher(loaded, config.top_k, config.temperature)
        self.teacher = teacher(self.native)

    def __call__(
        self, loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None
    ) -> torch.Tensor:
        return summed(batch, *self.token_losses(loaded, batch), tally)

    def token_losses(
        self, loaded: LoadedModel, batch: Sequence[Example]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The float32 loss of each supervised token, in order, and whether it was the likeliest."""
        import torch

        found = handwritten(loaded, batch) if self.handwritten else None
        if found is None:
            logits, labels = supervised_logits(loaded, [example.encoded for example in batch])
            parts = torch.split(logits, [example.supervised for example in batch])
            losses = [self._losses(*each) for each in zip(batch, parts, strict=True)]
            return torch.cat(losses), logits.detach().argmax(-1) == labels
        decoder, rows = found
        return self._handwritten_losses(decoder, rows, batch)

    @property
    def handwritten(self) -> bool:
        """Whether the hand-written decoder can compute the loss: at temperature 1."""
        return self.config.temperature == 1

    def _handwritten_losses(
        self, decoder: HandwrittenDecoder, rows: PackedRows, batch: Sequence[Example]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``_losses``, for a batch: a divergence is a cross-entropy less an entropy."""
        import torch

        from harness.training.step.handwritten.head import SoftLabels

        parts: list[tuple[torch.Tensor, ...]] = []
        for example in batch:
            weight = self._supervised_weight(example.conversation)
            target = (
                hard_targets(example.encoded)
                if weight == 1
                else self.targets(example, decoder.vocabulary)
            )
            kept = (1 - weight) * torch.ones(len(target.ids))
            if example.conversation in self.unfinished:
                kept = kept * target.soft
            probabilities, rest = kept.unsqueeze(1) * target.probabilities, kept * target.rest
            hard = torch.full((len(target.ids),), weight)
            parts.append((target.ids, probabilities, rest, hard, kept * entropy(target)))
        widest = max(ids.shape[1] for ids, *_ in parts)
        ids, probabilities, rest, hard, entropies = (
            torch.cat([_widened(each, widest) for each in column]).to(rows.ids.device)
            for column in zip(*parts, strict=True)
        )
        losses, correct = decoder.losses(rows, SoftLabels(ids, probabilities, rest, hard))
        return losses - entropies, correct

    def _losses(self, example: Example, logits: torch.Tensor) -> torch.Tensor:
        """The losses of one example; ``logits`` is [its supervised tokens, vocabulary]."""
        weight = self._supervised_weight(example.conversation)
        cross_entropy = logits.new_zeros(len(logits)).float()
        if weight:
            cross_entropy = kullback_leibler(logits, _to(hard_targets(example.encoded), logits))
        if weight == 1:
            return cross_entropy
        temperature = self.config.temperature
        targets = _to(self.targets(example, logits.shape[-1]), logits)
        distilled = kullback_leibler(logits, targets, temperature) * temperature**2
        if example.conversation in self.unfinished:
            distilled = distilled * targets.soft
        return weight * cross_entropy + (1 - weight) * distilled

    def targets(self, example: Example, size: int) -> Targets:
        """The teacher's targets along an example; ``size`` is the width of the logits."""
        conversation = example.conversation
        return soft_targets(
            example.encoded,
            self.native[conversation],
            self.rows.aligned(example),
            self.teacher[conversation],
            self.rows.tokenizer,
            size,
        )

    def _supervised_weight(self, conversation: str) -> float:
        if conversation not in self.native:
            return 1.0
        return self.config.supervised_weight if conversation in self.supervised else 0.0


def _widened(values: torch.Tensor, columns: int) -> torch.Tensor:
    """Ids [n, k] with their first column repeated, probabilities with zeros, and [n] as it is."""
    import torch

    if values.ndim == 1 or values.shape[1] == columns:
        return values
    filling = values[:, :1].expand(-1, columns - values.shape[1])
    return torch.cat([values, filling if values.dtype == torch.long else 0 * filling], 1)


def _to(targets: Targets, logits: torch.Tensor) -> Targets:
    names = ("ids", "probabilities", "used", "rest", "soft")
    return replace(targets, **{name: getattr(targets, name).to(logits.device) for name in names})
