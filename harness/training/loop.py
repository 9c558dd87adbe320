"""One optimiser step: forward and backward over its batches, one normalisation, one move of the weights.

The training loop: supervised-only logits, one normalisation a step, checkpoints that resume bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import clear_leftovers
from harness.models import LoadedModel, describe_base, note_adapter
from harness.models.lora_forward import install_lean_lora
from harness.progress import progress
from harness.training.config import OptimisationConfig, TrainConfig
from harness.training.data.examples import (
    Example,
    ExampleCache,
    TrainingPlan,
    even_batches,
    make_plan,
    micro_batches,
)
from harness.training.runs.checkpoints import (
    checkpoint_dirs,
    load_checkpoint,
    prune,
    random_state,
    read_state,
    save_adapter,
    save_checkpoint,
    set_random_state,
)
from harness.training.runs.metrics_log import MetricsLog
from harness.training.runs.trackers import Track, trackers
from harness.training.selection.early_stopping import StopDecision, value_of
from harness.training.step.distributed import Ranks
from harness.training.step.gradient_checkpointing import set_up
from harness.training.step.lora import adapter_weights, add_adapter
from harness.training.step.loss import Objective, Tally, supervised_loss
from harness.training.step.optimisers import Rates, clip, make_optimizer
from harness.training.step.schedules import Schedule

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


@dataclass(frozen=True, slots=True)
class StepResult:
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
        self.rates = Rates.of(model, config)
        self.optimizer = make_optimizer(self.rates.groups(model, config), config, loaded.device)

    def step(self, examples: Sequence[Example], rate: float) -> StepResult:
        """Move the weights once at this learning rate, that of factor A."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        weight = sum(sum(example.encoded.supervised()) for example in examples)
        own = self.ranks.scatter(examples, weight, self.parameters)
        reports = self.ranks.reduce(self.parameters, self._backward(own, weight))
        norm = clip(self.optimizer.param_groups, self.config.max_grad_norm)
        self.optimizer.step()
        tally = Tally([part for _, parts in reports for part in parts])
        return StepResult(
            sum(total for total, _ in reports),
            sum(example.supervised for example in examples),
            norm,
            tally.by_format(),
        )

    def follow(self) -> None:
        """Compute parts of the leader's steps until it releases the team."""
        while work := self.ranks.receive(self.parameters):
            self.ranks.reduce(self.parameters, self._backward(work.examples, work.weight))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that is trained, in an order that all processes share."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _backward(
        self, examples: Sequence[Example], weight: float
    ) -> tuple[float, list[tuple[list[Example], torch.Tensor]]]:
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
        """The micro-batches of a step: the hand-written decoder needs no padding, everything else does."""
        from harness.training.step.handwritten.decoder import find_decoder
        from harness.training.step.handwritten.packed_rows import tokens_needed

        handwritten = (
            self.objective is supervised_loss
            and examples
            and find_decoder(self.loaded, max(map(tokens_needed, examples))) is not None
        )
        return (even_batches if handwritten else micro_batches)(
            examples, self.config.max_tokens_per_batch
        )


#: (step, epoch, Σ learning rate) → what to log of this checkpoint.
Measure = Callable[[int], dict[str, Any]]
#: All measured checkpoints so far → what is to be said of the newest.
Judge = Callable[[list[dict[str, Any]]], StopDecision]


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimiser step. ``loss`` is the mean over its supervised tokens, in nats.

    ``learning_rate`` is factor A's (``lr_A``); ``s_lr_B`` is B's times the adapter's scaling, the pace at which B moves the model.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    sum_lr: float
    supervised_tokens: int
    grad_norm: float
    seconds: float
    lr_A: float
    s_lr_B: float
    formats: dict[str, dict[str, float]]


class Trainer:
    """Trains one adapter on a loaded base. ``run`` may be called again after an interruption: it goes on.

    ``schedule_from`` is the step at which the schedule begins: 0, or where a branch left its trunk.
    """

    def __init__(
        self,
        config: TrainConfig,
        loaded: LoadedModel,
        cache: ExampleCache,
        digest: str,
        measure: Measure | None = None,
        objective: Objective = supervised_loss,
        *,
        schedule_from: int = 0,
        judge: Judge | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config = config
        self.loaded = loaded
        self.cache = cache
        self.digest = digest
        self.measure = measure
        self.judge = judge
        self.stopped: dict[str, Any] | None = None
        self.folder = Path(config.output_dir)
        self.base = describe_base(loaded)
        self.plan: TrainingPlan = make_plan(config, cache)
        opt = config.optimisation
        self.schedule_from = schedule_from
        self.schedule = Schedule.of(config.schedule, self.plan.total_steps - schedule_from)
        self.model: PeftModel = add_adapter(loaded, config.adapter, config.seed)
        loaded.lean_lora = install_lean_lora(self.model)
        loaded.model = self.model  # a PeftModel forwards all that we ask of a model
        self.recomputes = set_up(
            opt.gradient_checkpointing,
            loaded,
            self.model,
            max(opt.max_tokens_per_batch, config.data.max_length),
        )
        self.track: Track = lambda _: None
        self.updater = Updater(loaded, self.model, opt, objective, ranks)
        self.optimizer = self.updater.optimizer
        self.save_every = config.checkpoints.save_steps or max(1, -(-self.plan.total_steps // 4))

    def run(self, *, quiet: bool = False) -> Path:
        """Train to the end, or until a checkpoint is judged to be the last, and return the folder of the final adapter, ``<output_dir>/adapter``."""
        import torch

        torch.manual_seed(self.config.seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(self.folder)
        step, sum_lr = self._resume()
        with (
            trackers(self.config, step) as self.track,
            MetricsLog(self.folder, after=step) as self.metrics_log,
            progress("train", self.plan.total_steps, quiet=quiet) as bar,
        ):
            bar.advance(step) if step else None
            stop = self._measured(step, sum_lr)
            while step < self.plan.total_steps and not stop:
                entry = self._step(step, sum_lr)
                step, sum_lr = entry.step, entry.sum_lr
                self._log({"kind": "step", **_fields(entry)})
                bar.advance(
                    1,
                    f"loss {entry.loss:.3f}  {entry.supervised_tokens / entry.seconds:.0f} tokens/s",
                )
                if step % self.save_every == 0 or step == self.plan.total_steps:
                    self._checkpoint(step, sum_lr)
                    stop = self._measured(step, sum_lr)
            if stop:
                self.stopped = {"step": step, "why": stop}
                self._log({"kind": "stopped", **self.stopped})
        self.model.eval()
        final = self.folder / "adapter"
        save_adapter(
            self.model,
            final,
            self.base,
            self.loaded.tokenizer if self.loaded.added_tokens else None,
        )
        note_adapter(self.loaded, final)
        return final

    def _resume(self) -> tuple[int, float]:
        """Go on from the newest checkpoint. Returns its step and Σ learning rate."""
        found = checkpoint_dirs(self.folder)
        if not found:
            return 0, 0.0
        if read_state(found[-1])["digest"] != self.digest:
            raise HarnessError(
                "this folder holds a run with other settings, data or base",
                where=str(self.folder),
                hint="choose another output_dir or remove the folder",
            )
        state = load_checkpoint(found[-1], self.model, self.optimizer)
        self.loaded.matmul_dtype = state.get("products_in", "")
        return int(state["step"]), float(state["sum_lr"])

    def _step(self, number: int, sum_lr: float) -> StepLog:
        began = time.monotonic()
        rate = self.config.optimisation.learning_rate * self.schedule.factor(
            number - self.schedule_from
        )
        done = self.updater.step([self.cache(pair) for pair in self.plan.step(number)], rate)
        epoch = (number + 1) / self.plan.steps_per_epoch
        rates = self.updater.rates
        return StepLog(
            number + 1,
            round(epoch, 4),
            done.loss,
            rate,
            sum_lr + rate,
            done.supervised_tokens,
            done.grad_norm,
            time.monotonic() - began,
            rate,
            rate * rates.b_over_a * rates.scaling,
            done.formats,
        )

    def _checkpoint(self, step: int, sum_lr: float) -> None:
        self.metrics_log.sync()
        epoch = step / self.plan.steps_per_epoch
        state = {
            "digest": self.digest,
            "epoch": epoch,
            "sum_lr": sum_lr,
            "schedule": _fields(self.schedule),
            "config": self.config.as_dict(),
        }
        state["products_in"] = self.loaded.matmul_dtype
        save_checkpoint(self.folder, step, self.model, self.optimizer, state, self.base)

    def _measured(self, step: int, sum_lr: float) -> str:
        """Measure this checkpoint unless that was done before the run was interrupted, and prune. Returns why to stop, or nothing."""
        last = self.metrics_log.checkpoints[-1:]
        if self.measure and (not last or last[0]["step"] != step):
            self.model.eval()
            kept = random_state()
            entry = {
                "kind": "checkpoint",
                "step": step,
                "epoch": round(step / self.plan.steps_per_epoch, 4),
                "sum_lr": sum_lr,
                **self.measure(step),
            }
            set_random_state(
                kept
            )  # whether a checkpoint was measured before or after an interruption changes nothing
            if self.judge and (marks := self.judge([*self.metrics_log.checkpoints, entry]).marks):
                entry["marks"] = list(marks)
            self._log(entry)
        prune(
            self.folder,
            self.config.checkpoints,
            self._scores() if self.config.checkpoints.keep_best else {},
        )
        return (
            self.judge(self.metrics_log.checkpoints).stop
            if self.judge and self.metrics_log.checkpoints
            else ""
        )

    def _scores(self) -> dict[int, float]:
        """The deciding measure by step, lower is better."""
        evaluation = self.config.evaluation
        sign = -1.0 if evaluation.greater_is_better else 1.0
        values = {
            entry["step"]: value_of(entry, evaluation.metric_for_best_model)
            for entry in self.metrics_log.checkpoints
        }
        return {step: sign * value for step, value in values.items() if value is not None}

    def _log(self, entry: dict[str, Any]) -> None:
        self.metrics_log.write(entry)
        self.track(entry)

    def weights(self) -> dict[str, torch.Tensor]:
        """The adapter's trainable tensors by name."""
        return adapter_weights(self.model)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
