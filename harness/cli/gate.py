"""harness gate init: write what gates a model in a repository of your own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.cli.arguments import at_least, parse, split_commas
from harness.errors import EXIT_OK, HarnessError


@dataclass(frozen=True)
class InitOptions:
    model: str
    """Model folder, .gguf file, hub id or SmolLM2-135M-Instruct, as the workflow will find it."""
    adapter: str | None = None
    """Folder of a LoRA adapter on top of the model."""
    formats: tuple[str, ...] = ()
    """Formats to gate, separated by commas or spaces. Default: the common ones."""
    formats_dir: tuple[str, ...] = ()
    """Folders of your own formats, in the repository."""
    cases: tuple[str, ...] = ()
    """Your own case files. Default: the shipped ones."""
    metrics: tuple[str, ...] = ()
    """Python files that declare metrics of your own (docs/add-a-metric.md)."""
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
    options = parse(InitOptions, args, "gate init", init.__doc__)
    from harness.gate.run_gate import GateOptions, suggested_baseline
    from harness.gate.scaffold import package, write_gate

    at_least(options, 1, "limit")
    if not options.model:
        raise HarnessError("--model needs a value")
    folder = Path(options.folder)
    if folder.is_absolute() or ".." in folder.parts or not folder.parts:
        raise HarnessError(
            f"invalid --folder {options.folder!r}: expected a folder in the repository",
            hint="such as eval",
        )
    gate = GateOptions(
        options.model,
        options.adapter,
        formats=split_commas(options.formats),
        formats_dirs=options.formats_dir,
        cases=options.cases,
        metrics=options.metrics,
        limit=options.limit,
        tests=(f"{folder.as_posix()}/",),
    )
    for path in write_gate(Path(options.root), gate, force=options.force):
        print(f"wrote {path}")
    print("next, in the repository, with a model that you trust:")
    print(f"  python -m pip install {shlex.quote(package(gate))}")
    print(f"  {gate.command(baseline=suggested_baseline(gate), update=True)}")
    print(
        f"  git add {shlex.quote(gate.tests[0])} .github && git commit -m 'Gate the prompt formats'"
    )
    return EXIT_OK
