"""harness resume, branch, tree, pick and average: what to do with a training run."""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from harness.cli.arguments import RunFolder, at_least, parse, split_commas
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError
from harness.terminal import console

if TYPE_CHECKING:
    from rich.tree import Tree

    from harness.training.runs.run_tree import RunNode


@dataclass(frozen=True)
class ResumeOptions:
    run: RunFolder
    """Folder of a run."""
    json: bool = False
    """Print {"run", "adapter"} and nothing else."""


@dataclass(frozen=True)
class BranchOptions:
    run: RunFolder
    """Folder of a run."""
    at: Annotated[str, tyro.conf.arg(name="from")] = "before-turn"
    """The checkpoint: step:N, epoch:E (the last one up to there), before-turn (the one that harness
    pick names) or last."""
    changes: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set", metavar="KEY=VALUE")
    ] = ()
    """A setting that the branch changes, such as learning_rate=1e-7."""
    optimizer: Literal["keep", "reset"] = "keep"
    """Keep Adam's moments, or start without them."""
    schedule: Literal["restart", "continue"] = "restart"
    """Restart the schedule over the branch's own steps, or continue the parent's."""
    rescale_b: bool = False
    """With a changed lora_alpha: divide B accordingly, so that the adapter computes the same."""
    out: str | None = None
    """Folder of the branch. Default: one in RUN/branches."""
    only_create: bool = False
    """Write the folder without training it; harness resume trains it."""
    json: bool = False
    """Print {"run", "adapter"} and nothing else."""


@dataclass(frozen=True)
class TreeOptions:
    run: RunFolder
    """Folder of a run, whose whole tree is drawn."""
    metric: Annotated[str, tyro.conf.arg(aliases=["--measure"])] = ""
    """Scores to show: nll_held_out, nll_seen or nll_native. Default: the first one logged."""
    json: bool = False
    """Print the tree as one JSON object."""


@dataclass(frozen=True)
class PickOptions:
    run: RunFolder
    """Folder of a run."""
    metric: Annotated[str, tyro.conf.arg(aliases=["--by", "--measure"])] = ""
    """What decides: nll_held_out, nll_seen, nll_native or recall. Default: the first NLL that was
    logged."""
    margin: float = 1.0
    """How far before the turning point, in standard errors of the paired difference to it."""
    seed: int = 0
    """Seed of the bootstrap over items."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class AverageOptions:
    run: RunFolder
    """Folder of a run."""
    steps: tuple[str, ...] = ()
    """Steps of the checkpoints, such as 40,60,80."""
    last: int = 0
    """Instead of --steps: the last N checkpoints."""
    rank: int = 0
    """Rank of the result. 0: that of the adapters. N times their rank loses nothing."""
    out: str | None = None
    """Folder of the adapter. Default: RUN/average-<steps>."""
    json: bool = False
    """Print {"adapter", "rank", "lost"}."""


def resume(args: list[str]) -> int:
    """Resume an interrupted run exactly where it stopped; a finished run stays as it is.

    Example: harness resume runs/train
    """
    options = parse(ResumeOptions, args, "resume", resume.__doc__)
    from harness.run_file import require_run_metadata
    from harness.training.start import resume as resume_run

    require_run_metadata(Path(options.run))
    run = Path(options.run).resolve()
    with _working_folder(run):
        adapter = resume_run(run, quiet=options.json)
    made = {"run": str(run), "adapter": str(adapter)}
    if options.json:
        print_json(made)
    else:
        print(f"adapter: {adapter}")
    return EXIT_OK


def branch(args: list[str]) -> int:
    """Start a new run from a checkpoint of another, with changed settings.

    Example: harness branch runs/train --from before-turn --set learning_rate=1e-5
    """
    options = parse(BranchOptions, args, "branch", branch.__doc__)
    from harness.run_file import require_run_metadata
    from harness.training.branch import BranchRequest, make_branch
    from harness.training.start import resume as resume_run

    require_run_metadata(Path(options.run))
    run = Path(options.run).resolve()
    request = BranchRequest(
        run,
        options.at,
        options.changes,
        options.optimizer,
        options.schedule,
        options.rescale_b,
        out=Path(options.out).resolve() if options.out else None,
    )
    with _working_folder(run):
        child = make_branch(request)
        if not options.json:
            print(f"run: {child}")
        adapter = None if options.only_create else resume_run(child, quiet=options.json)
    if options.json:
        print_json({"run": str(child), "adapter": str(adapter) if adapter else None})
    else:
        print(f"adapter: {adapter}" if adapter else f"next: harness resume {child}")
    return EXIT_OK


def tree(args: list[str]) -> int:
    """Draw the tree that a run belongs to, with each run's scores.

    Example: harness tree runs/train
    """
    options = parse(TreeOptions, args, "tree", tree.__doc__)
    from harness.training.runs.run_tree import root_of, run_tree

    run = Path(options.run)
    found = run_tree(root_of(run), options.metric)
    if options.json:
        print_json(found.as_dict())
        return EXIT_OK

    # A pipe has no width, and rich would cut lines at 80 columns.
    width = None if sys.stdout.isatty() else 240
    console(width=width).print(_draw(found, run.resolve()))
    return EXIT_OK


def pick(args: list[str]) -> int:
    """Find the turning point of a run and the best checkpoint before it. Exit code 1: none.

    Example: harness pick runs/train --metric nll_held_out
    """
    options = parse(PickOptions, args, "pick", pick.__doc__)
    at_least(options, 0, "margin", "seed")
    from harness.training.selection.best_checkpoint import find_best_checkpoint

    found = find_best_checkpoint(
        Path(options.run), options.metric, margin=options.margin, seed=options.seed
    )
    if options.json:
        print_json(found.as_dict())
    else:
        if found.step is not None:
            print(f"pick: {found.checkpoint or f'step {found.step}'}")
        print(found.reason)
        if found.checkpoint and found.turned:
            print(f"next: harness branch {options.run} --from before-turn --set learning_rate=…")
    return EXIT_OK if found.step is not None else EXIT_FINDINGS


def average(args: list[str]) -> int:
    """Average checkpoints of one run into an adapter.

    Example: harness average runs/train --last 3
    """
    options = parse(AverageOptions, args, "average", average.__doc__)
    at_least(options, 0, "last", "rank")
    from harness.run_file import require_run_metadata
    from harness.training.branch import find_checkpoint
    from harness.training.runs.checkpoints import checkpoint_dirs, step_of
    from harness.training.share.average import average as average_checkpoints

    run = Path(options.run)
    require_run_metadata(run)
    if bool(options.steps) == bool(options.last):
        raise HarnessError("give either --steps or --last", hint="--steps 40,60,80 or --last 3")
    chosen = [
        find_checkpoint(run, f"step:{step}") for step in split_commas(options.steps)
    ] or checkpoint_dirs(run)[-options.last :]
    name = "average-" + "-".join(str(step_of(folder)) for folder in chosen)
    out = Path(options.out) if options.out else run / name
    made = average_checkpoints(chosen, out, rank=options.rank)
    if options.json:
        print_json({"adapter": str(made.folder), "rank": made.rank, "lost": made.lost})
    else:
        print(
            f"adapter: {made.folder} (mean of {len(chosen)} checkpoints, rank {made.rank}, "
            f"at most {made.lost:.2%} of a layer's squared norm cut off)"
        )
    return EXIT_OK


def _draw(node: RunNode, here: Path) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    drawn = Tree(Text(_line(node), style="bold" if node.run.resolve() == here else ""))
    for child in node.children:
        drawn.add(_draw(child, here))
    return drawn


def _line(node: RunNode) -> str:
    from harness.training.runs.overrides import as_text

    origin = f"@{node.branched_at} " if node.branched_at is not None else ""
    changed = ", ".join(
        f"{name.rpartition('.')[2]} = {as_text(value)}" for name, value in node.changed.items()
    )
    changed = changed or f"learning_rate = {node.learning_rate:g}"
    steps = f"steps {node.steps[0]}–{node.steps[1]}, {node.state}"
    scores = ""
    if node.first and node.best and node.last:
        best = f"{node.best[1]:.3f} at step {node.best[0]}"
        scores = f"  {node.measure} {node.first[1]:.3f} → {best} → {node.last[1]:.3f}"
    return f"{origin}{node.run.name}  {changed}  {steps}{scores}"


def _working_folder(run: Path) -> AbstractContextManager[None]:
    """The folder that the run was started in, to which the recipe's relative paths belong."""
    from harness.run_file import require_run_metadata

    folder = Path(require_run_metadata(run).directory)
    return contextlib.chdir(folder if folder.is_dir() else Path())
