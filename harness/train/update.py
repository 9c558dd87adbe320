"""One optimiser step: forward and backward over its batches, one normalisation, one move of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.train.config import OptimisationConfig
from harness.train.examples import Example, micro_batches
from harness.train.objective import Objective, Tally, supervised_loss
from harness.train.optimisers import make_optimizer
from harness.train.rates import Rates, clip

if TYPE_CHECKING:
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
    """Owns the optimiser of an adapter. The loss is normalised over the whole step, however it is cut into batches."""

    def __init__(self, loaded: LoadedModel, model: PeftModel, config: OptimisationConfig, objective: Objective = supervised_loss) -> None:
        self.loaded = loaded
        self.model = model
        self.config = config
        self.objective = objective
        self.rates = Rates.of(model, config)
        self.optimizer = make_optimizer(self.rates.groups(model, config), config, loaded.device)

    def step(self, examples: Sequence[Example], rate: float) -> Updated:
        """Move the weights once at this learning rate, that of factor A."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        weight = sum(sum(example.encoded.supervised()) for example in examples)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total, tally = 0.0, Tally()
        for batch in micro_batches(examples, self.config.max_tokens_per_batch):
            loss = self.objective(self.loaded, batch, tally) / weight
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            total += loss.item()
        norm = clip(self.optimizer.param_groups, self.config.max_grad_norm)
        self.optimizer.step()
        return Updated(total, sum(example.supervised for example in examples), norm, tally.by_format())
