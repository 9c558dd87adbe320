"""One optimiser step: forward and backward over its batches, one normalisation, one move of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.train.config import OptimisationConfig
from harness.train.examples import Example, even_batches, micro_batches
from harness.train.objective import Objective, Tally, supervised_loss
from harness.train.optimisers import make_optimizer
from harness.train.rates import Rates, clip
from harness.train.team import Team

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from harness.models import LoadedModel


@dataclass(frozen=True, slots=True)
class Updated:
    """What a step did. ``loss`` is the mean over its supervised tokens in nats, weighted as they are, ``grad_norm`` is taken before clipping.

    ``formats`` tells each format's tokens, unweighted mean loss and share of tokens that the model would have chosen.
    """

    loss: float
    supervised_tokens: int
    grad_norm: float
    formats: dict[str, dict[str, float]]


class Updater:
    """Owns the optimiser of an adapter. The loss is normalised over the whole step, however it is cut into batches and dealt to processes."""

    def __init__(
        self, loaded: LoadedModel, model: PeftModel, config: OptimisationConfig, objective: Objective = supervised_loss, team: Team | None = None
    ) -> None:
        self.loaded = loaded
        self.model = model
        self.config = config
        self.objective = objective
        self.team = team or Team()
        self.rates = Rates.of(model, config)
        self.optimizer = make_optimizer(self.rates.groups(model, config), config, loaded.device)

    def step(self, examples: Sequence[Example], rate: float) -> Updated:
        """Move the weights once at this learning rate, that of factor A."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        weight = sum(sum(example.encoded.supervised()) for example in examples)
        own = self.team.deal(examples, weight, self.parameters)
        reports = self.team.collect(self.parameters, self._backward(own, weight))
        norm = clip(self.optimizer.param_groups, self.config.max_grad_norm)
        self.optimizer.step()
        tally = Tally([part for _, parts in reports for part in parts])
        return Updated(sum(total for total, _ in reports), sum(example.supervised for example in examples), norm, tally.by_format())

    def follow(self) -> None:
        """Compute parts of the leader's steps until it releases the team."""
        while work := self.team.receive(self.parameters):
            self.team.collect(self.parameters, self._backward(work.examples, work.weight))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that is trained, in an order that all processes share."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _backward(self, examples: Sequence[Example], weight: float) -> tuple[float, list[tuple[list[Example], torch.Tensor]]]:
        """Gradients of these examples' part of the step's loss. Returns that part in nats, and the tally's parts."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total, tally = 0.0, Tally()
        for batch in self._batches(examples):
            loss = self.objective(self.loaded, batch, tally) / weight
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            total += loss.item()
        return total, tally.parts

    def _batches(self, examples: Sequence[Example]) -> list[list[Example]]:
        """The passes of a step. The fused decoder lays rows of any length end to end; everything else pads them."""
        from harness.train.fused.recognise import find
        from harness.train.fused.rows import needed

        fused = self.objective is supervised_loss and examples and find(self.loaded, max(map(needed, examples))) is not None
        return (even_batches if fused else micro_batches)(examples, self.config.max_tokens_per_batch)
