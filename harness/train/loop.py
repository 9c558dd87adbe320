"""The training loop: supervised-only logits, one normalisation a step, checkpoints that resume bit for bit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.lora import fuse_for_inference
from harness.models import LoadedModel, note_adapter
from harness.progress import progress
from harness.train.adapters import adapter_weights, add_adapter, describe_base
from harness.train.checkpoints import checkpoint_dirs, load_checkpoint, prune, save_adapter, save_checkpoint
from harness.train.config import TrainConfig
from harness.train.examples import ExampleCache, Plan, make_plan
from harness.train.objective import Objective, supervised_loss
from harness.train.recompute import set_up
from harness.train.schedules import Schedule
from harness.train.stopping import Judgement
from harness.train.team import Team
from harness.train.tracking import Track, trackers
from harness.train.update import Updater

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

#: (step, epoch, Σ learning rate) → what to log of this checkpoint.
Measure = Callable[[int], dict[str, Any]]
#: All measured checkpoints so far → what is to be said of the newest.
Judge = Callable[[list[dict[str, Any]]], Judgement]


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
    """Trains one adapter on a loaded base. ``run`` may be called again after an interruption: it goes on."""

    def __init__(
        self,
        config: TrainConfig,
        loaded: LoadedModel,
        cache: ExampleCache,
        digest: str,
        measure: Measure | None = None,
        objective: Objective = supervised_loss,
        *,
        judge: Judge | None = None,
        team: Team | None = None,
    ) -> None:
        self.config = config
        self.loaded = loaded
        self.cache = cache
        self.digest = digest
        self.measure = measure
        self.judge = judge
        self.checkpoints: list[dict[str, Any]] = []
        self.stopped: dict[str, Any] | None = None
        self.folder = Path(config.output_dir)
        self.base = describe_base(loaded)
        self.plan: Plan = make_plan(config, cache)
        opt = config.optimisation
        self.schedule = Schedule.of(config.schedule, self.plan.total_steps)
        self.model: PeftModel = add_adapter(loaded, config.adapter, config.seed)
        loaded.fused = fuse_for_inference(self.model)
        loaded.model = self.model  # a PeftModel forwards all that we ask of a model
        self.recomputes = set_up(opt.gradient_checkpointing, loaded, self.model, max(opt.max_tokens_per_batch, config.data.max_length))
        self.track: Track = lambda _: None
        self.updater = Updater(loaded, self.model, opt, objective, team)
        self.optimizer = self.updater.optimizer
        self.save_every = config.checkpoints.save_steps or max(1, -(-self.plan.total_steps // 4))

    def run(self, *, quiet: bool = False) -> Path:
        """Train to the end, or until a checkpoint is judged to be the last, and return the folder of the final adapter, ``<output_dir>/adapter``."""
        import torch

        torch.manual_seed(self.config.seed)
        start, sum_lr = self._resume()
        log_path = self.folder / "metrics.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            trackers(self.config, start) as self.track,
            log_path.open("a", encoding="utf-8") as log,
            progress("train", self.plan.total_steps, quiet=quiet) as bar,
        ):
            bar.advance(start) if start else None
            if not start and self.measure:
                self._measure(0, 0.0, log)
            step = start
            while step < self.plan.total_steps and not self._ends(step, log):
                entry = self._step(step, sum_lr)
                step, sum_lr = entry.step, entry.sum_lr
                self._log(log, {"kind": "step", **_fields(entry)})
                bar.advance(1, f"loss {entry.loss:.3f}  {entry.supervised_tokens / entry.seconds:.0f} tokens/s")
                if step % self.save_every == 0 or step == self.plan.total_steps:
                    self._checkpoint(step, sum_lr, log)
        self.model.eval()
        final = self.folder / "adapter"
        save_adapter(self.model, final, self.base)
        if self.loaded.added_tokens:
            self.loaded.tokenizer.save_pretrained(final)  # plain peft needs it to know how far to resize the embeddings
        note_adapter(self.loaded, final)
        return final

    def _resume(self) -> tuple[int, float]:
        """Go on from the newest checkpoint, and forget what was logged after it."""
        found = checkpoint_dirs(self.folder)
        path = self.folder / "metrics.jsonl"
        if not found:
            path.unlink(missing_ok=True)
            return 0, 0.0
        state = load_checkpoint(found[-1], self.model, self.optimizer)
        if state["digest"] != self.digest:
            raise HarnessError(
                "this folder holds a run with other settings, data or base", where=str(self.folder), hint="choose another output_dir or remove the folder"
            )
        if path.is_file():
            whole = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            entries = [entry for entry in whole if entry["step"] <= state["step"] and entry["kind"] != "stopped"]
            self.checkpoints = [entry for entry in entries if entry["kind"] == "checkpoint"]
            path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
        return int(state["step"]), float(state["sum_lr"])

    def _step(self, number: int, sum_lr: float) -> StepLog:
        began = time.monotonic()
        rate = self.config.optimisation.learning_rate * self.schedule.factor(number)
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

    def _checkpoint(self, step: int, sum_lr: float, log: Any) -> None:
        state = {"digest": self.digest, "sum_lr": sum_lr, "schedule": _fields(self.schedule), "config": self.config.as_dict()}
        save_checkpoint(self.folder, step, self.model, self.optimizer, state, self.base)
        prune(self.folder, self.config.checkpoints.save_total_limit)
        if self.measure:
            self._measure(step, sum_lr, log)

    def _measure(self, step: int, sum_lr: float, log: Any) -> None:
        if self.measure:
            self.model.eval()
            entry = {"kind": "checkpoint", "step": step, "epoch": round(step / self.plan.steps_per_epoch, 4), "sum_lr": sum_lr, **self.measure(step)}
            self.checkpoints.append(entry)
            if self.judge and (marks := self.judge(self.checkpoints).marks):
                entry["marks"] = list(marks)
            self._log(log, entry)

    def _ends(self, step: int, log: Any) -> bool:
        """Whether the checkpoint at this step is judged to be the last. Says so in the log's last line."""
        if self.judge and self.checkpoints and self.checkpoints[-1]["step"] == step and (why := self.judge(self.checkpoints).stop):
            self.stopped = {"step": step, "why": why}
            self._log(log, {"kind": "stopped", **self.stopped})
        return self.stopped is not None

    def _log(self, log: Any, entry: dict[str, Any]) -> None:
        log.write(json.dumps(entry) + "\n")
        log.flush()
        self.track(entry)

    def weights(self) -> dict[str, torch.Tensor]:
        """The adapter's trainable tensors by name."""
        return adapter_weights(self.model)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
