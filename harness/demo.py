"""The main job on SmolLM2-135M: evaluate, train across formats, evaluate again, report."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from harness.evaluation.analysis.build_report import write_evaluation_report
from harness.evaluation.analysis.format_verdicts import verdicts
from harness.evaluation.analysis.summary import summary
from harness.evaluation.analysis.terminal_lines import (
    print_table,
    print_verdicts,
    verdict_sentences,
)
from harness.evaluation.results import Evaluation
from harness.evaluation.run import run_job
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.extras import require
from harness.report.document import Training
from harness.run_file import read_metrics
from harness.training.config import TrainConfig, read_config

MODEL = "SmolLM2-135M-Instruct"
#: Largest number of cases of each kind, spread evenly over the shipped files.
LIMIT = 48
SETTINGS = EvalSettings(recall_formats=2, recall_continued=0)
#: The model's own format is added. The last five are of families that are never trained on.
FORMATS = (
    *("alpaca-newline", "chatml", "plain-user", "vicuna-v1.1-newline"),
    *("gemma3", "llama2-chat", "llama3", "openchat-3.5", "roleplay-names"),
)
#: Kinds of the shipped training set that are left out: their long texts would take half the time.
LEFT_OUT = ("reading", "summaries")


def demo(config: TrainConfig, out: Path, limit: int) -> list[Evaluation]:
    """Run the four steps and print the table. Results that ``out`` has are not computed again."""
    from harness.models import attach_adapter, load
    from harness.training.preparation import prepare
    from harness.training.start import train

    require("torch", "harness demo")
    began = time.monotonic()
    config = replace(config, output_dir=str(out / "train"))
    ready = prepare(config)
    families = tuple(sorted({trained.family for trained in ready.trained}))
    job = EvalJob(
        model=config.model,
        formats=FORMATS,
        limit=limit,
        out=out,
        trained_families=families,
        recall=True,
        train=tuple(source.path for source in config.data.sources()),
        # A shortened demo is short in recall too, which then is no headline.
        settings=SETTINGS if limit >= LIMIT else replace(SETTINGS, recall_examples=limit),
    )
    loaded = load(config.model, dtype=config.dtype)
    before = run_job(replace(job, label="before"), loaded=loaded)
    adapter = train(config, loaded=loaded)
    if loaded.adapter is None:  # training was done before, so it left ``loaded`` as it was
        attach_adapter(loaded, str(adapter))
    after = run_job(replace(job, label="after"), loaded=loaded)
    evaluations = [before, after]
    paths = write_evaluation_report(
        evaluations,
        out,
        model=config.model,
        limit=limit,
        training=training_curve(Path(config.output_dir), config),
    )
    print_table(evaluations)
    print()
    below = verdict_sentences(evaluations)
    for line in summary(evaluations):
        if line.text not in below:
            print(line.text)
    print()
    print_verdicts(evaluations, [verdicts(each) for each in evaluations])
    print()
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"report: {next(path for path in paths if path.suffix == '.html')}")
    print(f"adapter: {adapter}")
    print(f"took {minutes} min {seconds} s; next: harness eval {config.model} --adapter {adapter}")
    return evaluations


def training_curve(run: Path, config: TrainConfig) -> Training:
    """The run's log as the report shows it."""
    entries = read_metrics(run)
    return Training(
        schedule=config.schedule.lr_scheduler_type,
        steps=tuple(
            {key: entry[key] for key in ("step", "loss", "learning_rate", "sum_lr")}
            for entry in entries
            if entry["kind"] == "step"
        ),
        checkpoints=tuple(
            {key: value for key, value in entry.items() if key != "kind" and "items" not in key}
            for entry in entries
            if entry["kind"] == "checkpoint"
        ),
        config=config.as_dict(),
    )


def recipe() -> TrainConfig:
    """The demo's settings, shipped as eval/demo.toml, with the shipped rows but the long ones."""
    from harness.resources import data_dir

    config = read_config(data_dir("eval") / "demo.toml")
    kinds = sorted(data_dir("trainset").glob("*.jsonl"))
    train = tuple(str(path) for path in kinds if path.stem not in LEFT_OUT)
    return replace(config, data=replace(config.data, train=train))
