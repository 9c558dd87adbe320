"""harness resume RUN: go on with an interrupted run."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import parse
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class ResumeOptions:
    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run."""
    json: bool = False
    """Print {"run", "adapter"} and nothing else."""


def resume(args: list[str]) -> int:
    """Go on from the newest checkpoint with the settings in the run's own run.json; a finished run is left as it is."""
    options = parse(
        ResumeOptions,
        args,
        "resume",
        "Go on with an interrupted run, bit for bit, from its own run.json.",
    )
    from harness.run_file import require_run_metadata
    from harness.training.start import resume as resume_run

    run = Path(options.run).resolve()
    directory = Path(require_run_metadata(run).directory)
    with contextlib.chdir(
        directory if directory.is_dir() else "."
    ):  # the recipe's relative paths start there
        adapter = resume_run(run, quiet=options.json)
    print(
        json.dumps({"run": str(run), "adapter": str(adapter)})
        if options.json
        else f"adapter: {adapter}"
    )
    return EXIT_OK
