"""Trains each run of a study once, on one base, and evaluates models. A restart repeats nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.minisymposium.sitting import Sitting
from experiments.minisymposium.study import Scale, Study, rows_of
from harness.evaluation.format_groups import native_format_id
from harness.evaluation.results import Evaluation
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.files import write_text
from harness.formats import load_formats
from harness.resources import data_dir
from harness.training.config import TrainConfig
from harness.training.preparation import prepare
from harness.training.single_run import load_base, train_one
from harness.training.start import train

if TYPE_CHECKING:
    from harness.models import LoadedModel

TIMES_FILE = "times.json"
SMOKE_CASES = 2


@dataclass
class Experiment:
    """A study, its runs in ``out/runs`` and its results file in ``out/eval``.

    ``model`` replaces that of the study. ``sitting`` says when to stop for this time.
    """

    study: Study
    out: Path
    model: str = ""
    scale: Scale = "full"
    quiet: bool = False
    sitting: Sitting = field(default_factory=Sitting)
    evaluated: dict[str, Evaluation] = field(default_factory=dict)

    def config(self, name: str) -> TrainConfig:
        """The settings of a run."""
        return self.study.config(name, self.out / "runs", model=self.model, scale=self.scale)

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return Path(self.config(name).output_dir)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The base of all runs, loaded once. Adapters are attached to it one after the other."""
        return load_base(self.config(self.study.reference_run))

    @cached_property
    def native(self) -> str:
        """The id of the base's own format; for a base model, the one that the study names."""
        return (
            self.study.native
            or native_format_id(self.loaded.tokenizer, load_formats().values())
            or self.study.seen[0]
        )

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families that the reference run trains in. They are seen, for every model."""
        reference = prepare(self.config(self.study.reference_run))
        return tuple(sorted({each.family for each in reference.trained}))

    def train(self, names: Iterable[str]) -> None:
        """Train what is not trained yet, and note how long each run took."""
        from harness.models import switch_adapter
        from harness.models.adapters import remove_adapter

        for name in names:
            self.sitting.check()
            began = time.monotonic()
            switch_adapter(self.loaded, None)
            config = self.config(name)
            try:
                if config.auto_branch.branch_at_turn:  # its branches are short, and stop by a rule
                    train(config, loaded=self.loaded, quiet=self.quiet)
                else:
                    rule = self.sitting.after_checkpoint
                    train_one(config, loaded=self.loaded, quiet=self.quiet, stop_rule=rule)
            finally:
                self.note(f"train {name}", began)
            remove_adapter(self.loaded)

    def note(self, what: str, began: float) -> None:
        """Add the seconds since ``began`` to those noted before, by interrupted calls."""
        seconds = time.monotonic() - began
        if seconds < 1:
            return
        file = self.out / TIMES_FILE
        times = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        times[what] = round(times.get(what, 0.0) + seconds, 1)
        write_text(file, json.dumps(times, indent=1) + "\n")
        if not self.quiet:
            print(f"{what}: {seconds:.0f} s", file=sys.stderr)

    def evaluate(
        self,
        label: str,
        adapter: Path | None,
        cases: Sequence[str] = (),
        *,
        formats: Sequence[str] = (),
        limit: int | None = None,
        recall: str = "",
        settings: EvalSettings | None = None,
    ) -> Evaluation:
        """Evaluate the base, with an adapter or without, on some files of eval/cases.

        What the results file holds is not computed again, and the evaluation of a label is kept in
        memory. ``recall`` names a run whose rows the model may have memorised.
        """
        from harness.models import switch_adapter

        if label in self.evaluated:
            return self.evaluated[label]
        smoke = self.scale == "smoke"
        settings = settings or EvalSettings()
        if smoke:
            settings = replace(settings, max_new_tokens=4, recall_examples=SMOKE_CASES)
        self.sitting.check()
        switch_adapter(self.loaded, str(adapter) if adapter else None)
        job = EvalJob(
            model=self.loaded.name,
            formats=tuple(formats) or (*self.study.seen, *self.study.held_out),
            cases=tuple(str(data_dir("eval") / "cases" / f"{name}.jsonl") for name in cases),
            limit=SMOKE_CASES if smoke else limit,
            out=self.out / "eval",
            native=self.native,
            trained_families=self.families,
            recall=bool(recall),
            train=rows_of(self.config(recall)) if recall else (),
            label=label,
            settings=settings,
        )
        self.evaluated[label] = run_job(job, loaded=self.loaded, quiet=self.quiet)
        switch_adapter(self.loaded, None)
        return self.evaluated[label]
