"""One optimiser step: forward and backward over its batches, one normalisation, one move of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.train.config import OptimisationConfig
from harness.train.examples import Example, micro_batches
from harness.train.objective import Objective, supervised_loss
from harness.train.optimisers import make_optimizer

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from harness.models import LoadedModel


@dataclass(frozen=True, slots=True)
class Updated:
    """What a step did. ``loss`` is the mean over its supervised tokens in nats, ``grad_norm`` is taken before clipping."""

    loss: float
    supervised_tokens: int
    grad_norm: float


class Updater:
    """Owns the optimiser of an adapter. The loss is normalised over the whole step, however it is cut into batches."""

    def __init__(self, loaded: LoadedModel, model: PeftModel, config: OptimisationConfig, objective: Objective = supervised_loss) -> None:
        self.loaded = loaded
        self.model = model
        self.config = config
        self.objective = objective
        trained = [parameter for _, parameter in sorted(model.named_parameters()) if parameter.requires_grad]
        self.optimizer = make_optimizer(trained, config, loaded.device)

    def step(self, examples: Sequence[Example], rate: float) -> Updated:
        """Move the weights once at this learning rate."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = rate
        supervised = sum(sum(example.encoded.trained[1:]) for example in examples)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in micro_batches(examples, self.config.max_tokens_per_batch):
            loss = self.objective(self.loaded, batch) / supervised
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            total += loss.item()
        parameters: list[torch.nn.Parameter] = self.optimizer.param_groups[0]["params"]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm or float("inf"))
        self.optimizer.step()
        return Updated(total, supervised, float(norm))
