"""Format distillation: in every drawn format the model shall answer as the base model does in its native one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.training.config import ObjectiveConfig
from harness.training.distill.alignment import NativeRows
from harness.training.distill.soft_targets import Targets, certain, kullback_leibler, make_targets
from harness.training.distill.teacher import teacher_distributions
from harness.training.step.loss import Tally, summed, supervised_logits

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.training.data.examples import Example


class Distillation:
    """The objective of knowledge distillation with the base model as its own teacher (Hinton 2015, arXiv 1503.02531).

    At each answer token KL(teacher ‖ student), times temperature²; the teacher is the base without adapter and reads the same
    conversation in the native format. ``supervised`` names the conversations whose given answers are learnt as well: there
    the loss is (1 − supervised_weight) · KL + supervised_weight · cross-entropy. Both are sums over the same
    supervised tokens. ``unfinished`` names those whose last answer was cut: they teach only what the teacher believes, which at
    the cut is to go on, and nothing that is certain, such as the rest of a stop that the text only has because it was cut.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rows: NativeRows,
        config: ObjectiveConfig,
        supervised: frozenset[str] = frozenset(),
        unfinished: frozenset[str] = frozenset(),
    ) -> None:
        self.rows = rows
        self.config = config
        self.unfinished = unfinished
        self.supervised = supervised if config.supervised_weight else frozenset()
        self.native = {
            id: rows.encoded(id) for id in rows.conversations if not self._only_supervised(id)
        }
        found = teacher_distributions(loaded, list(self.native.values()), config.top_k, config.temperature)
        self.teacher_distributions = dict(zip(self.native, found, strict=True))

    def __call__(
        self, loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None
    ) -> torch.Tensor:
        return summed(batch, *self.token_losses(loaded, batch), tally)

    def token_losses(
        self, loaded: LoadedModel, batch: Sequence[Example]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of each supervised token of a batch in its order, float32, and whether the model would have chosen it."""
        import torch

        logits, said = supervised_logits(loaded, [example.encoded for example in batch])
        parts = torch.split(logits, [sum(example.encoded.trained[1:]) for example in batch])
        losses = torch.cat(
            [self._losses(example, own) for example, own in zip(batch, parts, strict=True)]
        )
        return losses, logits.detach().argmax(-1) == said

    def _losses(self, example: Example, logits: torch.Tensor) -> torch.Tensor:
        """Those of one example; ``logits`` is [its supervised tokens, vocabulary]."""
        weight = (
            1.0
            if example.conversation not in self.native
            else self.config.supervised_weight
            if example.conversation in self.supervised
            else 0.0
        )
        learnt = (
            kullback_leibler(logits, _to(certain(example.encoded), logits))
            if weight
            else logits.new_zeros(len(logits)).float()
        )
        if weight == 1:
            return learnt
        targets = _to(self.targets(example, logits.shape[-1]), logits)
        distilled = (
            kullback_leibler(logits, targets, self.config.temperature) * self.config.temperature**2
        )
        if example.conversation in self.unfinished:
            distilled = distilled * targets.soft
        return weight * learnt + (1 - weight) * distilled

    def targets(self, example: Example, size: int) -> Targets:
        """What the student should believe along an example."""
        id = example.conversation
        return make_targets(
            example.encoded,
            self.native[id],
            self.rows.aligned(example),
            self.teacher_distributions[id],
            self.rows.tokenizer,
            size,
        )

    def _only_supervised(self, id: str) -> bool:
        return id in self.supervised and self.config.supervised_weight == 1


def _to(targets: Targets, logits: torch.Tensor) -> Targets:
    fields = ("ids", "probabilities", "used", "rest", "soft")
    return replace(targets, **{name: getattr(targets, name).to(logits.device) for name in fields})
