"""harness train RUN.toml, with environment and flags over the file."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.arguments import parse
from harness.cli.main import program
from harness.cli.output import print_json
from harness.data.refusals import summarise_refusals
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError
from harness.run_file import RUN_FILE, run_of
from harness.training.config import TrainConfig, parse_config, read_environment
from harness.training.config.other_trainers import TRAINERS, OtherRecipe
from harness.training.config.recipe_file import RecipeFile, read_recipe_file
from harness.training.config.recipe_text import recipe_toml

if TYPE_CHECKING:
    from harness.training.plan.dry_run import DryRun

#: Characters of a sample that are printed; --json has all of it.
SHOWN = 600
#: Samples that are printed, spread over the formats.
SAMPLES = 10

_DESCRIPTION = """Train a LoRA adapter across prompt formats.

usage: {program} train [RUN.toml] [--dry-run] [--json] [--quiet] [options]
       {program} train CONFIG.yaml [--from axolotl|llama-factory|trl|unsloth] …
                              trains what another trainer's configuration or notebook says, and
                              lists every key that is not kept; --dry-run shows the recipe
       {program} train RUN    resumes a run from its folder, as {program} resume does
       {program} train [RUN.toml] --init [--force] [options]
                              writes a commented recipe from the options; on a terminal it asks

A flag overrides the environment (HARNESS_TRAIN_LEARNING_RATE=1e-4), which overrides the file.

--json prints {{"run", "adapter"}}, or with --dry-run all of it, as JSON. --quiet prints nothing but
errors.

--dry-run prints what the run would do and the memory it would take, and trains nothing.

Example: harness train run.toml --learning-rate 1e-4 --dry-run"""


def train(args: list[str]) -> int:
    """Train a LoRA adapter; a flag overrides the environment, which overrides the file."""
    switches = {name: name in args for name in ("--dry-run", "--json", "--init", "--force")}
    rest = [arg for arg in args if arg not in switches]
    given = bool(rest) and not rest[0].startswith("-")
    if switches["--init"]:
        return _init(rest, force=switches["--force"], as_json=switches["--json"])
    if switches["--force"]:
        raise HarnessError("--force needs --init")
    if given and (Path(rest[0]) / RUN_FILE).is_file() and not switches["--dry-run"]:
        from harness.cli.runs import resume

        return resume(args)
    trainer, rest = _take_from(rest)
    file = Path(rest.pop(0)) if rest and not rest[0].startswith("-") else None
    if file is None and trainer:
        raise HarnessError("--from needs a file", hint=f"harness train FILE --from {trainer}")
    read = read_recipe_file(file, trainer, os.environ) if file else RecipeFile(read_environment())
    recipe = read.other
    description = _DESCRIPTION.format(program=program())
    options = parse(TrainConfig, rest, "train", description, default=read.config)
    config = parse_config(options.as_dict(), where="flags")
    read.refuse_incomplete(config, "flag")
    if switches["--dry-run"]:
        return _dry_run(config, recipe, as_json=switches["--json"])
    if recipe is not None:
        print("\n".join(recipe.lines()), file=sys.stderr)
    from harness.training import start
    from harness.training.step.distributed import join_ranks, leave_ranks

    final = start.train(config, quiet=switches["--json"])
    if join_ranks().is_main and switches["--json"]:
        print_json({"run": config.output_dir, "adapter": str(final)})
    elif join_ranks().is_main:
        print(f"adapter: {final}")
        print(f"next: harness eval {shlex.quote(str(run_of(final) or final))}")
    return leave_ranks(EXIT_OK)


def _init(rest: list[str], *, force: bool, as_json: bool) -> int:
    from harness.cli.train_init import DEFAULT_FILE, write_recipe

    file = Path(rest.pop(0)) if rest and not rest[0].startswith("-") else Path(DEFAULT_FILE)
    description = _DESCRIPTION.format(program=program())
    options = parse(TrainConfig, rest, "train", description, default=read_environment())
    return write_recipe(file, options, force=force, as_json=as_json)


def _take_from(args: list[str]) -> tuple[str, list[str]]:
    """The value of --from, and the other arguments."""
    for at, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name == "--from":
            if not equals and at + 1 == len(args):
                raise HarnessError(f"--from needs a value: {', '.join(TRAINERS)}")
            end = at + 1 if equals else at + 2
            return value if equals else args[at + 1], [*args[:at], *args[end:]]
    return "", args


def _dry_run(config: TrainConfig, recipe: OtherRecipe | None, *, as_json: bool) -> int:
    """Print what the run would do. Exit code 1 when it would not start."""
    from harness.training.plan.dry_run import dry_run

    run = dry_run(config)
    if recipe is not None and not as_json:
        print("\n".join(recipe.lines()))
        print(f"\n{recipe_toml(config)}")
    if as_json:
        read_from = {"read_from": recipe.as_dict()} if recipe is not None else {}
        print_json({**run.as_dict(), **read_from}, indent=1, default=str)  # YAML has dates
    else:
        print("\n".join(_describe(run)))
    return EXIT_OK if run.starts else EXIT_FINDINGS


def _describe(run: DryRun) -> Iterator[str]:
    from harness.training.plan.format_findings import finding_lines

    each = max(1, SAMPLES // max(1, len(run.samples)))
    for name, samples in islice(run.samples.items(), SAMPLES):
        for number, text in enumerate(samples[:each], 1):
            cut = f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}" if len(text) > SHOWN else text
            yield f"── {name}, sample {number}; ‹trained› ──\n{cut}\n"
    if len(run.samples) > SAMPLES:
        yield f"… and {len(run.samples) - SAMPLES} more formats: --json has samples of all\n"
    for name, value in run.facts.items():
        yield f"{name}: {value}"
    for row in run.sets:
        total = f"{row['draws_per_epoch']} draws an epoch"
        yield f"set {row['path']}: {row['rows']} rows × {row['weight']:g} = {total}"
    for name, count in run.formats.items():
        parts = ", ".join(f"{part} {number}" for part, number in sorted(count["parts"].items()))
        tokens = f"{count['supervised_tokens']} supervised tokens ({parts or 'none'})"
        yield f"format {name}: {count['pairs']} pairs, {count['rows']} rows, {tokens}"
    yield from run.dropped
    yield from finding_lines(run.findings)
    yield from run.targets
    yield from run.marks
    for memory in run.memory:
        has = f" of {memory.has / 2**30:.1f}" if memory.has else ""
        how = f"{'with' if memory.checkpointing else 'without'} gradient checkpointing"
        yield f"memory on {memory.where}, {how}: {memory.bytes / 2**30:.2f}{has} GiB"
        yield from (
            f"  {part.name:18} {part.bytes / 2**20:9.1f} MiB = {part.why}" for part in memory.parts
        )
    for refusal in run.refused:
        yield f"refused ({refusal.reason}): {refusal.place}: {refusal.message}"
    if run.refused:
        reason = "" if run.starts else ": the run would not start (data.on_refuse = error)"
        yield f"{summarise_refusals(run.refused)}{reason}"
