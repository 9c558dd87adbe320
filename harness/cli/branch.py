"""harness branch, tree, pick and average: runs that come from runs."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from harness.cli.arguments import comma, parse
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError

if TYPE_CHECKING:
    from rich.tree import Tree

    from harness.training.runs.run_tree import Relative


@dataclass(frozen=True)
class BranchOptions:
    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run."""
    at: Annotated[str, tyro.conf.arg(name="from")] = "before-turn"
    """The checkpoint: step:N, epoch:E (the newest up to there), before-turn (what harness pick names) or last."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting that is another in the branch, as learning_rate=1e-7. May be given several times."""
    optimizer: Literal["keep", "reset"] = "keep"
    """Take Adam's moments along, or begin with none."""
    schedule: Literal["restart", "continue"] = "restart"
    """Begin the schedule at the branch, over its own steps, or go on where the trunk's was."""
    rescale_b: bool = False
    """With another lora_alpha: divide B accordingly, so that the adapter computes what it did."""
    out: str | None = None
    """The branch's folder; one in RUN/branches without it."""
    only_create: bool = False
    """Write the folder and do not train it: harness resume does."""
    json: bool = False
    """Print {"run", "adapter"} and nothing else."""


@dataclass(frozen=True)
class TreeOptions:
    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run; the whole tree that it belongs to is shown."""
    measure: str = ""
    """Scores to show: nll_held_out, nll_seen or nll_native; the first that was logged without it."""
    json: bool = False
    """Print the tree as one JSON object."""


@dataclass(frozen=True)
class PickOptions:
    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run."""
    by: str = ""
    """What decides: nll_held_out, nll_seen, nll_native, or recall; the first NLL that was logged without it."""
    margin: float = 1.0
    """How far before the turn, in standard errors of the paired difference to it."""
    seed: int = 0
    """Seeds the draws of items."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class AverageOptions:
    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run."""
    steps: tuple[str, ...] = ()
    """The checkpoints' steps, as 40,60,80."""
    last: int = 0
    """Or the newest so many."""
    of: Literal["product", "factors"] = "product"
    """The mean of the products B·A, which is the mean of what the checkpoints add to the model; or of each factor, which is not."""
    rank: int = 0
    """Rank of the result; the adapters' own without it. n times their rank loses nothing."""
    out: str | None = None
    """Folder of the adapter; RUN/average-<steps> without it."""
    json: bool = False
    """Print {"adapter", "rank", "lost"}."""


def branch(args: list[str]) -> int:
    """Start a new run from a checkpoint of another."""
    options = parse(
        BranchOptions,
        args,
        "branch",
        "Start a new run from a checkpoint of another, with changed settings.",
    )
    from harness.run_file import require_note
    from harness.training.branch import BranchRequest, make_branch
    from harness.training.start import resume

    run = Path(options.run).resolve()
    out = Path(options.out).resolve() if options.out else None
    with contextlib.chdir(
        _directory(require_note(run).directory)
    ):  # the recipe's relative paths start there
        request = BranchRequest(
            run,
            options.at,
            options.set,
            options.optimizer,
            options.schedule,
            options.rescale_b,
            out=out,
        )
        child = make_branch(request)
        if not options.json:
            print(f"run: {child}")
        adapter = None if options.only_create else resume(child, quiet=options.json)
    if options.json:
        print(json.dumps({"run": str(child), "adapter": str(adapter) if adapter else None}))
    else:
        print(f"adapter: {adapter}" if adapter else f"next: harness resume {child}")
    return EXIT_OK


def tree(args: list[str]) -> int:
    """Draw a run's tree."""
    options = parse(
        TreeOptions, args, "tree", "Draw the tree that a run belongs to, with each run's scores."
    )
    from harness.training.runs.run_tree import lineage, root_of

    run = Path(options.run)
    found = lineage(root_of(run), options.measure)
    if options.json:
        print(json.dumps(found.as_dict()))
        return EXIT_OK
    from rich.console import Console

    width = (
        None if sys.stdout.isatty() else 240
    )  # a pipe has no width of its own, and rich would cut at 80
    Console(highlight=False, width=width).print(_drawn(found, run.resolve()))
    return EXIT_OK


def pick(args: list[str]) -> int:
    """Name the checkpoint to take and say why."""
    options = parse(
        PickOptions,
        args,
        "pick",
        "Find a run's turning point and the checkpoint before it. Exit code 1: no checkpoint lies before the turn.",
    )
    from harness.training.selection.pick import pick as pick_checkpoint

    found = pick_checkpoint(Path(options.run), options.by, margin=options.margin, seed=options.seed)
    if options.json:
        print(json.dumps(found.as_dict()))
    else:
        if found.step is not None:
            print(f"pick: {found.checkpoint or f'step {found.step}'}")
        print(found.reason)
        if found.checkpoint and found.turned:
            print(f"next: harness branch {options.run} --from before-turn --set learning_rate=…")
    return EXIT_OK if found.step is not None else EXIT_FINDINGS


def average(args: list[str]) -> int:
    """Write the mean of several checkpoints as an adapter."""
    options = parse(
        AverageOptions, args, "average", "Average checkpoints of one run into an adapter."
    )
    from harness.training.branch import find_checkpoint
    from harness.training.runs.checkpoints import checkpoint_dirs, step_of
    from harness.training.share.average import average as average_checkpoints

    run = Path(options.run)
    if bool(options.steps) == bool(options.last):
        raise HarnessError("say which checkpoints", hint="--steps 40,60,80 or --last 3")
    chosen = [
        find_checkpoint(run, f"step:{step}") for step in comma(options.steps)
    ] or checkpoint_dirs(run)[-options.last :]
    out = (
        Path(options.out)
        if options.out
        else run / ("average-" + "-".join(str(step_of(folder)) for folder in chosen))
    )
    made = average_checkpoints(chosen, out, of=options.of, rank=options.rank)
    if options.json:
        print(json.dumps({"adapter": str(made.folder), "rank": made.rank, "lost": made.lost}))
    else:
        print(
            f"adapter: {made.folder} (mean of {len(chosen)} checkpoints, rank {made.rank}, at most {made.lost:.2%} of a layer's squared norm cut off)"
        )
    return EXIT_OK


def _drawn(node: Relative, here: Path) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    drawn = Tree(Text(_line(node), style="bold" if node.run.resolve() == here else ""))
    for child in node.children:
        drawn.add(_drawn(child, here))
    return drawn


def _line(node: Relative) -> str:
    from harness.training.runs.overrides import as_text

    origin = f"@{node.branched_at} " if node.branched_at is not None else ""
    changed = (
        ", ".join(
            f"{name.rpartition('.')[2]} = {as_text(value)}" for name, value in node.changed.items()
        )
        or f"learning_rate = {node.learning_rate:g}"
    )
    scores = ""
    if node.first and node.best and node.last:
        scores = f"  {node.measure} {node.first[1]:.3f} → {node.best[1]:.3f} at step {node.best[0]} → {node.last[1]:.3f}"
    return f"{origin}{node.run.name}  {changed}  steps {node.steps[0]}–{node.steps[1]}, {node.state}{scores}"


def _directory(noted: str) -> Path:
    directory = Path(noted)
    return directory if directory.is_dir() else Path()
