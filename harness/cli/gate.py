"""harness gate init: write what gates a model in a repository of your own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.cli.arguments import at_least, parse, split_commas
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class InitOptions:
    model: str
    """Model folder, .gguf file, hub id or SmolLM2-135M-Instruct, as the workflow will find it."""
    adapter: str | None = None
    """Folder of a LoRA adapter on top of the model."""
    formats: tuple[str, ...] = ()
    """Formats to gate, separated by commas or spaces. Default: the common ones."""
    cases: tuple[str, ...] = ()
    """Your own case files. Default: the shipped ones."""
    limit: int | None = None
    """At most this many cases of each kind."""
    root: str = "."
    """Folder of the repository."""
    folder: str = "eval"
    """Folder of the gate in the repository."""
    force: bool = False
    """Replace existing files."""


def init(args: list[str]) -> int:
    """Write the gate, its thresholds and a GitHub Actions workflow to your repository."""
    from harness.gate.scaffold import GatePlan, write_gate

    options = parse(InitOptions, args, "gate init", init.__doc__)
    at_least(options, 1, "limit")
    plan = GatePlan(
        options.model,
        options.adapter,
        split_commas(options.formats),
        options.cases,
        options.limit,
        options.folder.strip("/"),
    )
    for path in write_gate(Path(options.root), plan, force=options.force):
        print(f"wrote {path}")
    print("next, in the repository, with a model that you trust:")
    print(f"  python -m pip install {shlex.quote(plan.package)}")
    print(f"  {shlex.join(['pytest', *plan.arguments, '--update-baseline'])}")
    print(f"  git add {plan.folder} .github && git commit -m 'Gate the prompt formats'")
    return EXIT_OK
