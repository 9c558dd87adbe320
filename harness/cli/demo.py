"""harness demo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.cli.arguments import parse
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class DemoOptions:
    out: str = "build/demo"
    """Folder for results, adapter and report. A second run computes only what is missing."""
    limit: int | None = None
    """At most so many cases of each kind; the demo's own subset without it."""
    num_train_epochs: float | None = None
    """Passes over the training set; the recipe's without it."""
    model: str | None = None
    """Another model than the recipe's."""


def demo(args: list[str]) -> int:
    """Evaluate SmolLM2-135M across formats, train it across formats, evaluate again, write the report."""
    options = parse(
        DemoOptions,
        args,
        "demo",
        "Evaluate SmolLM2-135M across formats, train it across formats, evaluate it again, write the report.",
    )
    from harness.demo import LIMIT, demo, recipe

    config = recipe()
    if options.model:
        config = replace(config, model=options.model)
    if options.num_train_epochs:
        config = replace(
            config,
            optimisation=replace(config.optimisation, num_train_epochs=options.num_train_epochs),
        )
    demo(config, Path(options.out), options.limit or LIMIT)
    return EXIT_OK
