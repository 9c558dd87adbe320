"""A control for the drift hazard: a LoRA that is taught Chinese answers to English questions, a few
among many English ones.

At each checkpoint: the hazard along English references, the hazard along the model's own greedy
answers, and the share of those answers that drift. A measure that works rises in steps while the
answers are still English.
Run: python benchmarks/hazard.py [--out build/hazard]   (SmolLM2-135M, some minutes on two cores)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import GenerateRequest, ScoreRequest
from harness.data.conversations import load_conversations
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.metrics.drift import drift
from harness.metrics.hazard import hazard
from harness.models import LoadedModel, load
from harness.records import Format
from harness.resources import data_dir
from harness.training.config import (
    CheckpointsConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    OptimisationConfig,
    ScheduleConfig,
    TrainConfig,
)
from harness.training.loop import Trainer
from harness.training.preparation import prepare, run_digest

#: Questions with Chinese answers, those of the experiment's positive control
#: (docs/minisymposium.md).
CHINESE = (
    Path(__file__).resolve().parents[1] / "docs" / "recipes" / "minisymposium" / "chinese.jsonl"
)


def training_rows(share_english: int) -> list[dict[str, Any]]:
    english = [
        c
        for c in load_conversations([str(data_dir("trainset"))])
        if len(c.messages) == 2 and len(c.messages[1].content.split()) <= 90
    ]
    chinese = load_conversations([str(CHINESE)])
    rows = [
        [{"role": m.role, "content": m.content} for m in c.messages]
        for c in [*english[: share_english * len(chinese)], *chinese]
    ]
    return [{"id": f"row-{n}", "messages": messages} for n, messages in enumerate(rows)]


def control(options: argparse.Namespace) -> TrainConfig:
    """The settings of the control's training; writes its rows."""
    options.out.mkdir(parents=True, exist_ok=True)
    rows = training_rows(options.english)
    (options.out / "rows.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return TrainConfig(
        output_dir=str(options.out / "run"),
        data=DataConfig(train=(str(options.out / "rows.jsonl"),)),
        formats=FormatsConfig(
            train=("chatml", "plain-user", "alpaca-newline", "zephyr"), held_out=("llama3",)
        ),
        optimisation=OptimisationConfig(
            learning_rate=options.learning_rate,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=8,
        ),
        schedule=ScheduleConfig(lr_scheduler_type="constant"),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
        checkpoints=CheckpointsConfig(save_steps=4, save_total_limit=1),
    )


class HazardMeasure:
    """Measures a checkpoint in each format, prints a line and keeps it in ``table``."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        known = load_formats()
        self.formats = [known["chatml"], known["llama3"]]
        self.references = load_cases([str(data_dir("eval") / "dev.jsonl")])[:16]
        self.questions = [
            case
            for case in load_cases([str(data_dir("eval") / "cases" / "answers.jsonl")])
            if case.expect_language == "en"
        ][::6][:24]
        self.table: list[tuple[int, dict[str, dict[str, float]]]] = []

    def __call__(self, step: int) -> dict[str, Any]:
        backend = TransformersBackend(self.loaded)
        entry = {format.id: self.in_format(format, backend) for format in self.formats}
        self.table.append((step, entry))
        print(
            f"step {step:3}  "
            + "   ".join(
                f"{id}: " + " ".join(f"{name} {value:.4f}" for name, value in found.items())
                for id, found in entry.items()
            ),
            flush=True,
        )
        return {"control": entry}

    def in_format(self, format: Format, backend: TransformersBackend) -> dict[str, float]:
        """The hazard along references and along own answers, and the share of those that drift."""
        builder = RequestBuilder(backend, 40)
        scores = [
            item.request
            for item in builder.build(self.references, [format])
            if isinstance(item.request, ScoreRequest)
        ]
        asks = [
            item.request
            for item in builder.build(self.questions, [format])
            if isinstance(item.request, GenerateRequest)
        ]
        along = [
            hazard(scoring.off_script)
            for batch in backend.score(scores)
            for _, found in batch
            for scoring in found
        ]
        answers = [answer for batch in backend.generate(asks) for _, answer in batch]
        own = [hazard(answer.off_script) for answer in answers]
        return {
            "hazard_ref": fmean(found.value for found in along if found),
            "hazard": fmean(found.value for found in own if found),
            "drift": sum(drift(answer.text).drift is True for answer in answers) / len(answers),
        }

    def print_onsets(self) -> None:
        """When the hazard has grown tenfold, and when the first answer drifts."""
        for format in self.formats:
            rows = [(step, entry[format.id]) for step, entry in self.table]
            base = rows[0][1]
            drifted = next((step for step, row in rows if row["drift"] > base["drift"]), None)
            tenfold = next(
                (step for step, row in rows if row["hazard_ref"] > 10 * base["hazard_ref"]), None
            )
            print(
                f"{format.id}: the hazard along references is ten times the base's at step {tenfold}, the first answer drifts at step {drifted}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/hazard"))
    parser.add_argument("--english", type=int, default=3, help="English rows for each Chinese one")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--epochs", type=float, default=6)
    options = parser.parse_args()
    config = control(options)
    ready, loaded = prepare(config), load(config.model)
    measure = HazardMeasure(loaded)
    Trainer(
        config,
        loaded,
        ready.encode(loaded.tokenizer)[0],
        run_digest(ready, loaded.source.digest),
        measure,
    ).run(quiet=True)
    measure.print_onsets()


if __name__ == "__main__":
    main()
