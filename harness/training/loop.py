"""The training loop: one optimiser step after another, checkpoints between, resumed exactly."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import clear_leftovers
from harness.models import LoadedModel, describe_base, note_adapter
from harness.models.lora_forward import install_lean_lora, trains_lean
from harness.progress import progress, recording
from harness.run_file import other_run
from harness.training.config import TrainConfig
from harness.training.data.examples import Example, ExampleCache, TrainingPlan, make_plan
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
from harness.training.schedules import Schedule
from harness.training.selection.early_stopping import StopDecision, StopRule, value_of
from harness.training.step.distributed import Ranks
from harness.training.step.failure import (
    refuse_broken_weights,
    refuse_guessing,
    refuse_not_finite,
)
from harness.training.step.lora import add_adapter
from harness.training.step.loss import Objective, supervised_loss
from harness.training.step.pass_budget import fit_passes
from harness.training.step.updater import Updater

if TYPE_CHECKING:
    from peft import PeftModel

#: A checkpoint's step → what to log of it.
Measure = Callable[[int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimiser step. ``loss`` is the mean over its supervised tokens, in nats.

    ``learning_rate`` is that of factor A. ``s_lr_B`` is B's times the adapter's scaling: the pace
    at which B moves the model. ``parts`` are answers, thoughts, calls and stop.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    sum_lr: float
    supervised_tokens: int
    grad_norm: float
    seconds: float
    s_lr_B: float
    formats: dict[str, dict[str, float]]
    parts: dict[str, dict[str, float]]

    def as_entry(self) -> dict[str, Any]:
        """As metrics.jsonl holds it, where the rate of A has two names."""
        return {"kind": "step", **asdict(self), "lr_A": self.learning_rate}


class Trainer:
    """Trains one adapter on a loaded base. It changes ``loaded``, which then carries the adapter.

    ``run`` resumes after an interruption. ``schedule_from`` is the step at which the schedule
    begins: 0, or where a branch left its trunk.
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
        stop_rule: StopRule | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        from harness.training.step.handwritten.decoder import stack_weights

        self.config = config
        self.loaded = loaded
        self.cache = cache
        self.digest = digest
        self.measure = measure
        self.stop_rule = stop_rule
        self.stopped: dict[str, Any] | None = None
        self.folder = Path(config.output_dir)
        self.base = describe_base(loaded)
        self.plan: TrainingPlan = make_plan(config, cache)
        opt = config.optimisation
        self.schedule_from = schedule_from
        self.schedule = Schedule(config.schedule, self.plan.total_steps - schedule_from)
        self.model: PeftModel = add_adapter(loaded, config.adapter, config.seed)
        loaded.lean_lora = install_lean_lora(self.model)
        loaded.lean_training = loaded.lean_lora and trains_lean(self.model)
        loaded.model = self.model  # a PeftModel passes on all that we ask of a model
        self.track: Track = lambda _: None
        self.updater = Updater(loaded, self.model, opt, objective, ranks)
        stack_weights(loaded)
        fit_passes(
            self.updater.passes,
            opt,
            loaded,
            self.model,
            self._steps,
            sharded=self.updater.ranks.shards is not None,
        )
        self.optimizer = self.updater.optimizer
        self.save_every = config.checkpoints.save_steps or max(1, -(-self.plan.total_steps // 4))

    def run(self, *, quiet: bool = False) -> Path:
        """Train to the end, or until the stop rule ends the run.

        Returns the folder of the final adapter, ``<output_dir>/adapter``.
        """
        import torch

        torch.manual_seed(self.config.seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(self.folder)
        step, sum_lr = self._resume()
        with (
            trackers(self.config, step) as self.track,
            MetricsLog(self.folder, after=step) as self.metrics_log,
            recording(self.folder) if self.updater.ranks.is_main else nullcontext(),
            progress("train", self.plan.total_steps, quiet=quiet, done=step) as bar,
        ):
            stop = self._measured(step, sum_lr)
            while step < self.plan.total_steps and not stop:
                entry = self.step(step, sum_lr)
                step, sum_lr = entry.step, entry.sum_lr
                self._log(entry.as_entry())
                pace = entry.supervised_tokens / entry.seconds
                bar.advance(1, f"loss {entry.loss:.3f}  {pace:.0f} tokens/s")
                if step % self.save_every == 0 or step == self.plan.total_steps:
                    self._refuse_failed(entry)
                    self._checkpoint(step, sum_lr)
                    stop = self._measured(step, sum_lr)
            if stop:
                self.stopped = {"step": step, "why": stop}
                self._log({"kind": "stopped", **self.stopped})
            self.metrics_log.sync()
        self.model.eval()
        final = self.folder / "adapter"
        tokenizer = self.loaded.tokenizer if self.loaded.added_tokens else None
        save_adapter(self.model, final, self.base, tokenizer)
        note_adapter(self.loaded, final)
        return final

    def _resume(self) -> tuple[int, float]:
        """Load the newest checkpoint that is not damaged. Returns its step and Σ learning rate.

        A damaged one is reported on standard error, and trained again.
        """
        for checkpoint in reversed(checkpoint_dirs(self.folder)):
            try:
                same = read_state(checkpoint)["digest"] == self.digest
                state = load_checkpoint(checkpoint, self.model, self.optimizer) if same else {}
            except HarnessError as error:
                print(f"{error}; {checkpoint.name} is damaged and left out", file=sys.stderr)
                continue
            if not same:
                raise other_run(self.folder)
            self.loaded.matmul_dtype = state.get("products_in", "")
            kept = state.get("tokens_per_pass", self.updater.passes.budget)
            self.updater.passes.budget = min(kept, self.updater.passes.budget)
            return int(state["step"]), float(state["sum_lr"])
        return 0, 0.0

    def _steps(self) -> Iterator[list[Example]]:
        return map(self.examples, range(self.plan.total_steps))

    def examples(self, number: int) -> list[Example]:
        """What optimiser step ``number``, from 0, learns from."""
        return [self.cache(pair) for pair in self.plan.step(number)]

    def step(self, number: int, sum_lr: float) -> StepLog:
        """Do optimiser step ``number``, from 0. ``sum_lr`` is Σ learning rate before it."""
        began = time.monotonic()
        factor = self.schedule.factor(number - self.schedule_from)
        rate = self.config.optimisation.learning_rate * factor
        result = self.updater.step(self.examples(number), rate, number)
        rates = self.updater.rates
        return StepLog(
            number + 1,
            round(self.plan.epoch_at(number + 1), 4),
            result.loss,
            rate,
            sum_lr + rate,
            result.supervised_tokens,
            result.grad_norm,
            time.monotonic() - began,
            rate * rates.b_over_a * rates.scaling,
            result.formats,
            result.parts,
        )

    def _refuse_failed(self, last: StepLog) -> None:
        """Raise TrainingFailedError, before a checkpoint is written, if the run cannot be used."""
        rate = last.learning_rate
        refuse_broken_weights(self.loaded, self.updater.parameters, last.step, rate)
        if self.config.objective.kind == "supervised":  # only its loss is the tokens' own
            steps = [entry for entry in self.metrics_log.entries if entry["kind"] == "step"]
            losses, gradients = ([each[key] for each in steps] for key in ("loss", "grad_norm"))
            size = self.model.get_base_model().config.get_text_config().vocab_size
            refuse_guessing(losses, gradients, size, last.step, rate)

    def _checkpoint(self, step: int, sum_lr: float) -> None:
        self.metrics_log.sync()
        state = {
            "digest": self.digest,
            "epoch": self.plan.epoch_at(step),
            "sum_lr": sum_lr,
            "config": self.config.as_dict(),
            "products_in": self.loaded.matmul_dtype,
            "tokens_per_pass": self.updater.passes.budget,
        }
        save_checkpoint(self.folder, step, self.model, self.optimizer, state, self.base)

    def _measured(self, step: int, sum_lr: float) -> str:
        """Measure this checkpoint, unless an interrupted process did, and prune the others.

        Returns why to stop, or "".
        """
        last = self.metrics_log.checkpoints[-1:]
        if self.measure and (not last or last[0]["step"] != step):
            self.model.eval()
            random_before = random_state()
            metrics = self.measure(step)
            rate = self.config.optimisation.learning_rate
            refuse_not_finite(self.loaded, step, rate, _means(metrics))
            entry = {
                "kind": "checkpoint",
                "step": step,
                "epoch": round(self.plan.epoch_at(step), 4),
                "sum_lr": sum_lr,
                **metrics,
            }
            # Whether a checkpoint is measured before or after an interruption changes nothing.
            set_random_state(random_before)
            if marks := self._decision([*self.metrics_log.checkpoints, entry]).marks:
                entry["marks"] = list(marks)
            self._log(entry)
        keep = self.config.checkpoints
        prune(self.folder, keep, self._scores() if keep.keep_best else {})
        return self._decision(self.metrics_log.checkpoints).stop

    def _decision(self, checkpoints: list[dict[str, Any]]) -> StopDecision:
        if self.stop_rule and checkpoints:
            return self.stop_rule(checkpoints)
        return StopDecision()

    def _scores(self) -> dict[int, float]:
        """The deciding metric by step, lower is better."""
        name = self.config.evaluation.metric_for_best_model
        entries = self.metrics_log.checkpoints
        values = {entry["step"]: value_of(entry, name) for entry in entries}
        return {step: value for step, value in values.items() if value is not None}

    def _log(self, entry: dict[str, Any]) -> None:
        self.metrics_log.write(entry)
        self.track(entry)


def _means(metrics: dict[str, Any]) -> dict[str, float]:
    """Every mean among a checkpoint's metrics, by a name for people."""
    single = {name: value for name, value in metrics.items() if isinstance(value, float)}
    recall = {f"recall in {name}": value for name, value in metrics.get("recall", {}).items()}
    return single | recall
