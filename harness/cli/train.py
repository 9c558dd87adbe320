"""harness train RUN.toml, with environment and flags over the file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.cli.arguments import parse
from harness.errors import EXIT_OK
from harness.train.config import TrainConfig, parse_config, read_config, read_environment

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
    config = parse_config(parse(TrainConfig, rest, "train", _DESCRIPTION, default=base).as_dict(), where="flags")
    from harness.train import job

    if switches["--dry-run"]:
        for name, value in job.dry_run(config).items():
            print(f"{name}: {value}")
        return EXIT_OK
    try:
        final = job.train(config)
    except KeyboardInterrupt:
        print("\ninterrupted — start the same command again: it resumes from the last checkpoint", file=sys.stderr)
        raise
    print(f"adapter: {final}")
    print(f"next: harness eval {config.model} --adapter {final}")
    return EXIT_OK
