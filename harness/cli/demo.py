"""harness demo: evaluate, train, evaluate again, report, on a small model."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import at_least, parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError
from harness.progress import recording

_DESCRIPTION = (
    "Evaluate SmolLM2-135M across formats, train it, evaluate it again, and write the report.\n\n"
    "Example: harness demo --cases-per-format 8 --out build/demo"
)


@dataclass(frozen=True)
class DemoOptions:
    out: str = "build/demo"
    """Folder for results, adapter and report. A second run computes only what is missing."""
    limit: Annotated[int | None, tyro.conf.arg(aliases=["--cases-per-format"])] = None
    """At most this many cases of each kind. Default: the demo's own subset."""
    num_train_epochs: float | None = None
    """Passes over the training set. Default: as in the recipe."""
    model: str | None = None
    """Another model. Default: that of the recipe."""
    json: bool = False
    """Print the files as JSON."""


def demo(args: list[str]) -> int:
    """Run the demo, unless its results are there already."""
    options = parse(DemoOptions, args, "demo", _DESCRIPTION)
    at_least(options, 1, "limit")
    from harness.demo import LIMIT, demo, recipe

    config = recipe()
    if options.model:
        config = replace(config, model=options.model)
    epochs = options.num_train_epochs
    if epochs is not None and not epochs > 0:
        raise HarnessError(f"invalid --num-train-epochs {epochs}: expected more than 0")
    if epochs:
        config = replace(
            config,
            optimisation=replace(config.optimisation, num_train_epochs=epochs),
        )
    out = Path(options.out)
    with redirect_stdout(sys.stderr) if options.json else nullcontext(), recording(out):
        demo(config, out, options.limit or LIMIT)
    if options.json:
        print_json({"files": [str(path) for path in sorted(out.glob("report.*"))]})
    return EXIT_OK
