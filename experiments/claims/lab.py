"""Trains each run once, and measures it: references, recall and greedy answers to its rows."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.before_after import prepared, with_changes
from experiments.claims.full_tuning import MODEL_DIR, RECALL_FILE, tune_fully
from experiments.paired import by_case
from harness.data.conversations import as_row, load_conversations
from harness.evaluation.cases.case_files import spread_evenly
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob
from harness.files import write_text
from harness.resources import data_dir
from harness.run_file import measured_checkpoints
from harness.training.config import TrainConfig, parse_config

if TYPE_CHECKING:
    from harness.models import LoadedModel

HERE = Path(__file__).parent
BASE = "base"
#: The native format of SmolLM2.
NATIVE = "smollm2"

#: Reference → NLL in nats a token, in the native format and as the mean over held-out ones.
References = Mapping[str, Mapping[str, float]]
#: Row or control → log-probability a token, before training and after it.
RecallItems = tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Lab:
    """The runs of runs.toml, in ``out``. ``model`` replaces that of common.toml.

    With ``smoke`` a run has two steps, to test the code.
    """

    out: Path
    model: str = ""
    smoke: bool = False
    quiet: bool = False

    @cached_property
    def runs(self) -> dict[str, dict[str, Any]]:
        """What each run changes, by name."""
        return tomllib.loads((HERE / "runs.toml").read_text(encoding="utf-8"))

    def config(self, name: str) -> TrainConfig:
        """The settings of a run. Raises HarnessError for settings that are unknown."""
        table = tomllib.loads((HERE / "common.toml").read_text(encoding="utf-8"))
        changes = {**self.runs[name]}
        changes.pop("full", None)
        if count := changes.pop("few", 0):
            table["data"] = {**table["data"], "train": [str(self._few(table, count))]}
        table = {**with_changes(table, changes), "output_dir": str(self.out / name)}
        config = parse_config(table, str(HERE / "runs.toml"))
        return prepared(config, self.model, smoke=self.smoke)

    def _few(self, table: Mapping[str, Any], count: int) -> Path:
        """A file of some of the rows, spread evenly over their kinds."""
        path = self.out / f"few-{count}.jsonl"
        if path.is_file():
            return path
        rows = spread_evenly(load_conversations(table["data"]["train"]), count)
        lines = [json.dumps(as_row(row), ensure_ascii=False) for row in rows]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "\n".join(lines) + "\n")
        return path

    @cached_property
    def loaded(self) -> LoadedModel:
        """The base of all runs."""
        from harness.training.single_run import load_base

        return load_base(self.config("native"))

    def run(self, name: str) -> Path:
        """The folder of a run, trained if it is not yet."""
        from harness.models.adapters import remove_adapter, switch_adapter
        from harness.training.start import train

        config = self.config(name)
        if self.runs[name].get("full"):
            return tune_fully(config, quiet=self.quiet)
        switch_adapter(self.loaded, None)
        train(config, loaded=self.loaded, quiet=self.quiet)
        remove_adapter(self.loaded)
        return Path(config.output_dir)

    def references(self, name: str) -> References:
        """What the references cost a run's model, or the base. A full model is removed then."""
        file = self.out / name / "references.json"
        if not file.is_file():
            write_text(file, json.dumps(self._references(name)) + "\n")
            shutil.rmtree(file.with_name(MODEL_DIR), ignore_errors=True)
        found: References = json.loads(file.read_text(encoding="utf-8"))
        return found

    def _references(self, name: str) -> References:
        from harness.models.adapters import switch_adapter

        held_out = self.config("native").formats.held_out
        job = EvalJob(
            model=self.loaded.name,
            formats=(NATIVE, *held_out),
            cases=(str(data_dir("eval") / "cases" / "references.jsonl"),),
            limit=4 if self.smoke else None,
            out=self.out / "eval",
            label=name,
        )
        run = None if name == BASE else self.run(name)
        if run is not None and (run / MODEL_DIR).is_dir():
            found = run_job(replace(job, model=str(run / MODEL_DIR)), quiet=self.quiet)
        else:
            switch_adapter(self.loaded, str(run / "adapter") if run else None)
            found = run_job(job, loaded=self.loaded, quiet=self.quiet)
            switch_adapter(self.loaded, None)
        groups = {"native": (NATIVE,), "held out": held_out}
        return {group: by_case(found, "nll", formats=formats) for group, formats in groups.items()}

    def recall(self, name: str) -> RecallItems:
        """How likely a run's rows and their controls are, before and after it."""
        run = self.run(name)
        if self.runs[name].get("full"):
            before, after = json.loads((run / RECALL_FILE).read_text(encoding="utf-8"))
        else:
            entries = measured_checkpoints(run)
            before, after = (entries[at]["recall_items"] for at in (0, -1))
        return before, after

    def checkpoints(self, name: str) -> Iterator[tuple[int, LoadedModel]]:
        """The checkpoints of a run in order, each as its number from 1 and the model with it."""
        from harness.models.adapters import switch_adapter
        from harness.training.runs.checkpoints import checkpoint_dirs

        for number, checkpoint in enumerate(checkpoint_dirs(self.run(name)), 1):
            switch_adapter(self.loaded, str(checkpoint))
            yield number, self.loaded
        switch_adapter(self.loaded, None)
