"""harness train RUN.toml, with environment and flags over the file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.arguments import parse
from harness.data.refusals import summarise_refusals
from harness.errors import EXIT_FINDINGS, EXIT_OK
from harness.training.config import TrainConfig, parse_config, read_config, read_environment

if TYPE_CHECKING:
    from harness.training.plan.dry_run import DryRun

#: Characters of a sample that are printed; --json has it whole.
SHOWN = 600
#: Samples that are printed: three formats are shown three times each, more than ten not all.
SAMPLES = 10

_DESCRIPTION = """Train a LoRA adapter across prompt formats.

usage: harness train [RUN.toml] [--dry-run] [options]
A flag beats the environment (HARNESS_TRAIN_LEARNING_RATE=1e-4), that beats the file, and that the default.
--dry-run says what would be done, and what memory it takes, and does nothing; with --json, for programs."""


def train(args: list[str]) -> int:
    """Train a LoRA adapter; a flag beats the environment, that beats the file, and that the default."""
    switches = {name: name in args for name in ("--dry-run", "--json")}
    rest = [arg for arg in args if arg not in switches]
    given = bool(rest) and not rest[0].startswith("-")
    base = read_config(Path(rest.pop(0)), os.environ) if given else read_environment()
    config = parse_config(
        parse(TrainConfig, rest, "train", _DESCRIPTION, default=base).as_dict(), where="flags"
    )
    if switches["--dry-run"]:
        return _dry_run(config, as_json=switches["--json"])
    from harness.training import start
    from harness.training.step.distributed import join_ranks

    try:
        final = start.train(config)
    except KeyboardInterrupt:
        print(
            "\ninterrupted — start the same command again: it resumes from the last checkpoint",
            file=sys.stderr,
        )
        raise
    if join_ranks().is_main:
        print(f"adapter: {final}")
        print(f"next: harness eval {config.model} --adapter {final}")
    return EXIT_OK


def _dry_run(config: TrainConfig, *, as_json: bool) -> int:
    """Print what would be done. Exit code 1 when the run would not start."""
    from harness.training.plan.dry_run import dry_run

    told = dry_run(config)
    if as_json:
        print(json.dumps(told.as_dict(), indent=1, ensure_ascii=False))
    else:
        print("\n".join(_told(told)))
    return EXIT_OK if told.starts else EXIT_FINDINGS


def _told(run: DryRun) -> Iterator[str]:
    each = max(1, SAMPLES // max(1, len(run.samples)))
    for format, samples in islice(run.samples.items(), SAMPLES):
        for number, text in enumerate(samples[:each], 1):
            yield f"── {format}, sample {number}; ‹trained› ──\n{text if len(text) <= SHOWN else text[: SHOWN // 2] + ' … ' + text[-SHOWN // 2 :]}\n"
    if len(run.samples) > SAMPLES:
        yield f"… and {len(run.samples) - SAMPLES} more formats: --json has samples of all\n"
    for name, value in run.facts.items():
        yield f"{name}: {value}"
    for row in run.sets:
        yield f"set {row['path']}: {row['rows']} rows × {row['weight']:g} = {row['draws_per_epoch']} draws an epoch"
    for format, count in run.formats.items():
        yield f"format {format}: {count['pairs']} pairs, {count['rows']} rows, {count['supervised_tokens']} supervised tokens"
    for memory in run.memory:
        has = f" of {memory.has / 2**30:.1f}" if memory.has else ""
        yield f"memory on {memory.where}, {'with' if memory.checkpointing else 'without'} gradient checkpointing: {memory.bytes / 2**30:.2f}{has} GiB"
        yield from (
            f"  {part.name:18} {part.bytes / 2**20:9.1f} MiB = {part.why}" for part in memory.parts
        )
    for refusal in run.refused:
        yield f"refused ({refusal.reason}): {refusal.place}: {refusal.message}"
    if run.refused:
        yield f"{summarise_refusals(run.refused)}{'' if run.starts else ': the run would not start (data.on_refuse = error)'}"
