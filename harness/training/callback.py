"""Measure formats, recall and drift inside a training run of transformers or TRL.

The model is measured as it is in memory: nothing is saved or loaded, and the training goes on as if
it had not been measured. Weights, gradients, modes of modules and random states are left alone.
"""

from __future__ import annotations

import contextlib
import json
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from harness.data.readers import without_nulls
from harness.errors import HarnessError
from harness.evaluation.analysis.build_report import write_evaluation_report
from harness.evaluation.analysis.logged_numbers import logged_numbers
from harness.evaluation.results import Evaluation
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.models import LoadedModel, ModelSource
from harness.models.quantisation import Quantisation

#: Numbers of a measurement have this before their name in the trainer's log.
PREFIX = "formatproof/"
MEASUREMENTS = "measurements.jsonl"
"""In the callback's folder: a line for each measurement, with its step and numbers."""


class FormatCallback(TrainerCallback):  # type: ignore[misc] # transformers is not typed
    """Measures the model across prompt formats before, during and after a run of a Trainer.

    Add it to a Trainer of transformers or TRL: ``trainer.add_callback(FormatCallback(trainer))``.
    It measures before the first step, every ``every`` steps and after the last one; with
    ``every=0``, whenever the trainer evaluates. The numbers go to the trainer's log, with its
    trackers, and to measurements.jsonl; at the end the report of the first and the last measurement
    is written to ``out``, by default ``<output_dir>/formatproof``.
    """

    def __init__(
        self,
        trainer: Any,
        *,
        out: str | Path | None = None,
        every: int = 0,
        formats: Iterable[str] = (),
        cases: Iterable[str | Path] = (),
        limit: int | None = 8,
        train: str | Path | Iterable[Mapping[str, Any]] | None = None,
        controls: str | Path | Iterable[Mapping[str, Any]] | None = None,
        native: str | None = None,
        tokenizer: Any = None,
        **settings: Any,
    ) -> None:
        """``formats``, ``cases``, ``limit`` and ``native`` are those of ``harness.evaluate``.

        ``train``: the conversations that are trained on, a file or rows, to measure recall; and
        ``controls``, of the same origin and never trained on. ``settings`` are fields of
        ``EvalSettings``, as ``max_new_tokens``. ``tokenizer``: the trainer's own by default.

        Raises HarnessError for a trainer without a tokenizer, and one that shards its model.
        """
        self.trainer = trainer
        self.out = Path(out) if out is not None else Path(trainer.args.output_dir) / "formatproof"
        self.every = every
        self.formats, self.cases = tuple(formats), tuple(map(str, cases))
        self.limit, self.native = limit, native
        self.settings = EvalSettings(**settings)
        self.train = self._rows_file(train, "train")
        self.controls = self._rows_file(controls, "controls")
        self.tokenizer = tokenizer or getattr(trainer, "processing_class", None)
        self.evaluations: list[Evaluation] = []
        # Results are stored by what computed them, and two runs have other weights at a step.
        self._run = uuid.uuid4().hex
        self._measured_at = -1
        if not getattr(self.tokenizer, "is_fast", False):
            raise HarnessError("FormatCallback needs a fast tokenizer", hint="tokenizer=…")
        if getattr(trainer, "is_fsdp_enabled", False) or getattr(
            trainer, "is_deepspeed_enabled", False
        ):
            raise HarnessError("FormatCallback cannot measure a model that is sharded")

    def _rows_file(self, rows: Any, name: str) -> tuple[str, ...]:
        """A file of conversations; rows in memory are written to one."""
        if rows is None:
            return ()
        if isinstance(rows, str | Path):
            return (str(rows),)
        file = self.out / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(without_nulls(dict(row)), ensure_ascii=False) for row in rows)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return (str(file),)

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **kwargs: Any) -> None:
        """Measure before the first step."""
        self._measure(kwargs["model"], state)

    def on_step_end(self, _args: Any, state: Any, _control: Any, **kwargs: Any) -> None:
        """Measure every ``every`` steps."""
        if self.every and state.global_step % self.every == 0:
            self._measure(kwargs["model"], state)

    def on_evaluate(self, _args: Any, state: Any, _control: Any, **kwargs: Any) -> None:
        """Measure whenever the trainer evaluates, where ``every`` is 0."""
        if not self.every and "model" in kwargs:
            self._measure(kwargs["model"], state)

    def on_train_end(self, _args: Any, state: Any, _control: Any, **kwargs: Any) -> None:
        """Measure after the last step, and write the report."""
        if not state.is_world_process_zero:
            return
        self._measure(kwargs["model"], state)
        ends = [self.evaluations[0], *self.evaluations[-1:]]
        write_evaluation_report(
            ends if len(self.evaluations) > 1 else ends[:1],
            self.out,
            model=self.evaluations[-1].model,
            limit=self.limit,
        )

    def _measure(self, model: Any, state: Any) -> None:
        if not state.is_world_process_zero or state.global_step == self._measured_at:
            return
        self._measured_at = step = state.global_step
        job = EvalJob(
            model=_name(model),
            formats=self.formats,
            cases=self.cases,
            limit=self.limit,
            out=self.out,
            native=self.native,
            recall=bool(self.train),
            train=self.train,
            controls=self.controls,
            label=f"step {step}",
            settings=self.settings,
        )
        model = self.trainer.accelerator.unwrap_model(model)
        with _as_it_was(model):
            model.eval()
            evaluation = run_job(job, loaded=self._loaded(model, step), quiet=True)
        self.evaluations = [*self.evaluations[:1], evaluation]
        numbers = logged_numbers(evaluation)
        with (self.out / MEASUREMENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": self._run, "step": step, **numbers}) + "\n")
        self._log({PREFIX + name: value for name, value in numbers.items()})

    def _log(self, numbers: dict[str, float]) -> None:
        """Send numbers to the trainer's log, beside what it logs itself at this step.

        TRL's own ``log`` would empty the sums that it is collecting.
        """
        due = self.trainer.control.should_log  # logging takes it to be done
        Trainer.log(self.trainer, numbers)
        self.trainer.control.should_log = due

    def _loaded(self, model: Any, step: int) -> LoadedModel:
        """The trainer's model as the engine takes one. The model itself is not changed."""
        digest = f"memory:{self._run}@{step}"
        adapted = hasattr(model, "peft_config")
        floats = (weight for weight in model.parameters() if weight.is_floating_point())
        return LoadedModel(
            ModelSource(_name(model).rpartition("/")[2], _name(model), None, digest),
            model,
            self.tokenizer,
            str(next(floats).dtype).removeprefix("torch."),
            str(model.get_input_embeddings().weight.device),
            adapter=str(self.trainer.args.output_dir) if adapted else None,
            adapter_digest=digest if adapted else "",
            lean_lora=not adapted,
            quantisation=Quantisation(
                load_in_4bit=bool(getattr(model, "is_loaded_in_4bit", False)),
                load_in_8bit=bool(getattr(model, "is_loaded_in_8bit", False)),
            ),
        )


def _name(model: Any) -> str:
    """The name that a model was loaded by."""
    return str(getattr(model.config, "_name_or_path", "") or type(model).__name__)


@contextlib.contextmanager
def _as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Put back the mode of every module and all random states at the end of the block."""
    modes: Sequence[tuple[torch.nn.Module, bool]] = [(m, m.training) for m in model.modules()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    python = random.getstate()
    numpy = _numpy_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        numpy()
        for module, training in modes:
            module.training = training


def _numpy_state() -> Any:
    """A function that puts numpy's global generator back as it is now."""
    import numpy as np

    state = np.random.get_state()
    return lambda: np.random.set_state(state)
