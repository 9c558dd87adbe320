"""harness gate init: what a user needs to gate a model in a repository of their own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.cli.arguments import comma, parse
from harness.errors import EXIT_OK


@dataclass(frozen=True)
class InitOptions:
    model: str
    """Model folder, .gguf file, hub id or SmolLM2-135M-Instruct, as the workflow will find it."""
    adapter: str | None = None
    """LoRA adapter folder on top of the model."""
    formats: tuple[str, ...] = ()
    """Formats to gate, with commas or spaces. Empty: the common ones."""
    cases: tuple[str, ...] = ()
    """Case files of your own. Empty: the shipped ones."""
    limit: int | None = None
    """At most so many cases of each kind."""
    root: str = "."
    """The repository."""
    folder: str = "eval"
    """The gate's folder in it."""
    force: bool = False
    """Replace files that are there."""


def init(args: list[str]) -> int:
    """Write the gate's folder, its thresholds and a CI workflow, and say what comes next."""
    from harness.gate.scaffold import GatePlan, write_gate

    options = parse(
        InitOptions,
        args,
        "gate init",
        "Write eval/ with the gate, its thresholds and a workflow for GitHub Actions into your repository.",
    )
    plan = GatePlan(
        options.model,
        options.adapter,
        comma(options.formats),
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
