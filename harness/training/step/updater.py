"""One optimiser step over an adapter's weights, cut into micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models import LoadedModel
from harness.models.device import is_out_of_memory, release
from harness.models.lora_forward import cast_factors
from harness.records import Encoded
from harness.training.config import OptimisationConfig
from harness.training.data.examples import Example
from harness.training.step.distributed import Ranks
from harness.training.step.failure import refuse_not_finite
from harness.training.step.lora import begin_training
from harness.training.step.loss import Objective, Tally, supervised_loss, uses_handwritten
from harness.training.step.optimisers import Rates, clip, make_optimizer
from harness.training.step.passes import Pass, Passes
from harness.training.step.row_packing import packing_rows

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


#: What one more pass over a sharded base costs, in tokens: all weights go over the network.
GATHERING = 1 << 16
#: A row of two tokens, for passes that only accompany those of other processes.
NOTHING = Example("", "", Encoded((0, 0), (False, True)))


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did. ``loss`` is the weighted mean over its supervised tokens, in nats.

    ``grad_norm`` is taken before clipping. ``formats`` has each format's tokens, unweighted mean
    loss, and share of tokens that the model would have chosen; ``parts`` the same for answers,
    thoughts, calls and stop.
    """

    loss: float
    supervised_tokens: int
    grad_norm: float
    formats: dict[str, dict[str, float]]
    parts: dict[str, dict[str, float]]


class Updater:
    """Owns the optimiser of an adapter.

    The loss is normalised over the whole step, however it is cut into micro-batches and split over
    processes.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        model: PeftModel,
        config: OptimisationConfig,
        objective: Objective = supervised_loss,
        ranks: Ranks | None = None,
    ) -> None:
        self.loaded = loaded
        self.model = model
        self.config = config
        self.objective = objective
        self.ranks = ranks or Ranks()
        self.passes = Passes(
            loaded,
            config.max_tokens_per_batch,
            handwritten=uses_handwritten(objective),
            processes=self.ranks.count,
            cost=GATHERING if self.ranks.shards else None,
        )
        if self.ranks.shards:  # all processes at once: probes gather layers too
            self.passes.packing  # noqa: B018  # a cached property
        self.rates = Rates.of(model, config)
        self.optimizer = make_optimizer(self.rates.groups(model, config), config, loaded.device)

    def step(self, examples: Sequence[Example], rate: float, number: int = 0) -> StepResult:
        """Move the weights once at this learning rate, that of factor A.

        ``number`` is the step's, from 0. Raises TrainingFailedError, before any weight is moved,
        when the loss or the gradient is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        weight = sum(sum(example.encoded.supervised()) for example in examples)
        part = self.ranks.scatter(examples, weight, self.parameters)
        reports = self.ranks.reduce(self.parameters, self._backward(part, weight))
        norm = clip(self.optimizer.param_groups, self.config.max_grad_norm)
        loss = sum(total for total, _ in reports)
        found = {"the loss": loss, "the gradient": norm}
        refuse_not_finite(self.loaded, number + 1, rate, found)
        self.optimizer.step()
        tally = Tally([tallied for _, parts in reports for tallied in parts])
        return StepResult(
            loss,
            sum(example.supervised for example in examples),
            norm,
            tally.by_format(),
            tally.by_part(),
        )

    def follow(self) -> None:
        """Compute gradients for the main process's steps until it releases this one."""
        while share := self.ranks.receive(self.parameters):
            self.ranks.reduce(self.parameters, self._backward(share.examples, share.weight))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that is trained, in the same order in all processes."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _backward(
        self, examples: Sequence[Example], weight: float
    ) -> tuple[float, list[tuple[list[Example], torch.Tensor]]]:
        """Compute the gradients of these examples' part of the step's loss.

        Returns that part in nats, and the parts of its tally. A pass that runs out of memory is
        halved for the rest of the run. Raises HarnessError when a row alone does not fit.
        """
        while True:
            passes = self.passes.cut(examples)
            try:
                return self._run(passes, weight)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.ranks.shards:
                    raise self.ranks.shards.out_of_memory() from None
            # outside: the error's traceback holds the tensors of the pass
            self.optimizer.zero_grad(set_to_none=True)
            release(self.loaded.device)
            self.passes.lower(passes)

    def _run(
        self, passes: Sequence[Pass], weight: float
    ) -> tuple[float, list[tuple[list[Example], torch.Tensor]]]:
        import torch

        begin_training(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[torch.Tensor] = []
        tally = Tally()
        by_transformers = not all(each.handwritten for each in passes)
        idle = self.ranks.idle_passes(len(passes))  # before the first pass, which waits for others
        cast = cast_factors(self.model, self.loaded.torch_dtype)
        with cast if by_transformers or idle else nullcontext():
            for each in passes:
                with packing_rows(self.loaded, each.packing):
                    loss = self.objective(self.loaded, each.rows, tally) / weight
                    loss.backward()  # type: ignore[no-untyped-call]  # torch
                losses.append(loss.detach())
            for _ in range(idle):
                loss = 0 * self.objective(self.loaded, [NOTHING])
                loss.backward()  # type: ignore[no-untyped-call]  # torch
        # read at the end: a GPU's queue of kernels never runs empty between passes
        return sum(torch.stack(losses).tolist()) if losses else 0.0, tally.parts
