"""harness train RUN.toml, with flags over the file."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.cli.arguments import parse
from harness.errors import EXIT_OK
from harness.train.config import TrainConfig, parse_config, read_config


def train(args: list[str]) -> int:
    """Train a LoRA adapter; a flag beats the file, the file beats the default."""
    dry = "--dry-run" in args
    rest = [arg for arg in args if arg != "--dry-run"]
    base = TrainConfig()
    if rest and not rest[0].startswith("-"):
        base = read_config(Path(rest.pop(0)))
    description = "Train a LoRA adapter across prompt formats.\n\nusage: harness train [RUN.toml] [--dry-run] [options]\nA flag beats the file, the file beats the default. --dry-run says what would be done and does nothing."
    config = parse_config(_plain(parse(TrainConfig, rest, "train", description, default=base)), where="flags")
    from harness.train import job

    if dry:
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


def _plain(config: TrainConfig) -> dict[str, object]:
    return config.as_dict()
