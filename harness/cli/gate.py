"""harness gate init: write what gates a model in a repository of your own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harness.cli.arguments import at_least, parse, split_commas
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError


@dataclass(frozen=True)
class InitOptions:
    model: str
    """Model folder, .gguf file, hub id or SmolLM2-135M-Instruct, as the workflow will find it."""
    adapter: str | None = None
    """Folder of a LoRA adapter on top of the model."""
    native: str | None = None
    """The model's native format, when its chat template equals none of the known ones."""
    endpoint: str | None = None
    """Address of an OpenAI-compatible server that runs the model; MODEL is its name there."""
    formats: tuple[str, ...] = ()
    """Formats to gate, separated by commas or spaces. Default: the common ones."""
    formats_dir: tuple[str, ...] = ()
    """Folders of your own formats, in the repository."""
    cases: tuple[str, ...] = ()
    """Your own case files. Default: the shipped ones."""
    metrics: tuple[str, ...] = ()
    """Python files that declare metrics of your own (docs/add-a-metric.md)."""
    limit: Annotated[int | None, tyro.conf.arg(aliases=["--cases-per-format"])] = None
    """At most this many cases of each kind."""
    strict: bool = False
    """Let an inconclusive check fail."""
    root: str = "."
    """Folder of the repository."""
    folder: str = "eval"
    """Folder of the gate in the repository."""
    force: bool = False
    """Replace existing files."""
    json: bool = False
    """Print the files, the notes and the next commands as JSON."""


def init(args: list[str]) -> int:
    """Write the gate, its settings and thresholds, and a GitHub Actions workflow.

    Afterwards `pytest eval/` alone runs it, and plain `pytest` skips it.

    Example: harness gate init --model ./my-model --adapter ./my-adapter
    """
    options = parse(InitOptions, args, "gate init", init.__doc__)
    from harness.formats import load_formats
    from harness.gate.run_gate import UPDATE, GateOptions
    from harness.gate.scaffold import missing_on_a_runner, packages, write_gate

    at_least(options, 1, "limit")
    folder = Path(options.folder)
    if folder.is_absolute() or ".." in folder.parts or not folder.parts:
        raise HarnessError(
            f"invalid --folder {options.folder!r}: expected a folder in the repository",
            hint="such as eval",
        )
    gate = GateOptions(
        options.model,
        options.adapter,
        options.native,
        options.endpoint,
        strict=options.strict,
        formats=split_commas(options.formats),
        formats_dirs=options.formats_dir,
        cases=options.cases,
        metrics=options.metrics,
        limit=options.limit,
        tests=(f"{folder.as_posix()}/",),
    )
    root = Path(options.root)
    load_formats(*(root / name for name in gate.formats_dirs)).select(gate.formats)
    written = write_gate(root, gate, force=options.force)
    notes = missing_on_a_runner(gate)
    commands = [
        f"python -m pip install {shlex.join(packages(gate))}",
        f"pytest {shlex.quote(gate.tests[0])} {UPDATE}",
        f"git add {shlex.quote(gate.tests[0])} .github && git commit -m 'Gate the prompt formats'",
    ]
    if options.json:
        print_json({"files": list(map(str, written)), "notes": notes, "next": commands})
        return EXIT_OK
    for path in written:
        print(f"wrote {path}")
    for sentence in notes:
        print(f"note: {sentence}")
    print("next, in the repository, with a model that you trust:")
    for command in commands:
        print(f"  {command}")
    return EXIT_OK
