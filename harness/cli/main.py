"""Dispatch: ``harness <noun> [<verb>]`` → one function, its arguments parsed from its signature."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, HarnessError, nearest
from harness.extras import explain_missing


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command's function stands, and its line in the help."""

    module: str
    function: str
    summary: str


COMMANDS: dict[str, Command] = {
    "eval": Command(
        "harness.cli.evaluate",
        "evaluate",
        "measure a model across prompt formats and write the report",
    ),
    "train": Command("harness.cli.train", "train", "train a LoRA adapter across prompt formats"),
    "compare": Command(
        "harness.cli.compare",
        "compare",
        "two evaluations case by case, with intervals; exit 1 on a loss",
    ),
    "gate init": Command(
        "harness.cli.gate",
        "init",
        "write the regression gate and its CI workflow into your repository",
    ),
    "resume": Command("harness.cli.resume", "resume", "go on with an interrupted run"),
    "branch": Command(
        "harness.cli.branch", "branch", "start a new run from a checkpoint of another"
    ),
    "tree": Command("harness.cli.branch", "tree", "draw the tree of runs that a run belongs to"),
    "pick": Command(
        "harness.cli.branch", "pick", "find a run's turning point and the checkpoint to take"
    ),
    "average": Command(
        "harness.cli.branch", "average", "average checkpoints of a run into an adapter"
    ),
    "sweep": Command(
        "harness.cli.sweep", "sweep", "train over a grid of settings and draw the map"
    ),
    "merge": Command(
        "harness.cli.merge", "merge", "work an adapter into its base: a plain model folder"
    ),
    "export": Command(
        "harness.cli.export",
        "export",
        "make an adapter ready to share: chat template, stops, model card",
    ),
    "demo": Command(
        "harness.cli.demo",
        "demo",
        "the whole job on SmolLM2-135M: evaluate, train, evaluate again, report",
    ),
    "report": Command(
        "harness.cli.report", "report", "write report.md and report.html again from a report.json"
    ),
    "view": Command(
        "harness.cli.view",
        "view",
        "a run's page in the browser, following the run while it goes on",
    ),
    "results query": Command(
        "harness.cli.results",
        "query",
        "what a results file holds: measures, or everything asked and answered",
    ),
    "results export": Command(
        "harness.cli.results", "export", "a results file as CSV, Parquet or JSON lines"
    ),
    "preview": Command(
        "harness.cli.preview",
        "preview",
        "show a conversation's text and tokens in a format, trained ones coloured",
    ),
    "formats list": Command("harness.cli.formats", "list_formats", "the known prompt formats"),
    "formats show": Command(
        "harness.cli.formats", "show", "one format: its facts and its template"
    ),
    "formats render": Command(
        "harness.cli.formats", "render_file", "print a conversation in a format, to the byte"
    ),
    "formats check": Command(
        "harness.cli.formats",
        "check",
        "computed properties of formats, and what is wrong with them",
    ),
    "formats sample": Command(
        "harness.cli.formats", "sample_formats", "draw procedural formats from a grammar"
    ),
    "formats import": Command(
        "harness.cli.exchange",
        "import_",
        "make a format file of a model's template, a GGUF, a SillyTavern preset or an example",
    ),
    "formats export": Command(
        "harness.cli.exchange", "export", "write a format for another program"
    ),
    "formats detect": Command(
        "harness.cli.exchange", "detect", "which known format a model's chat template equals"
    ),
    "recall": Command(
        "harness.cli.recall", "recall", "which outputs copy a training set, and where"
    ),
    "phrases": Command(
        "harness.cli.phrases", "phrases", "canned phrases of outputs, their lift, and new ones"
    ),
    "drift": Command("harness.cli.drift", "drift", "which texts slip into another language"),
    "data answers": Command(
        "harness.cli.data",
        "answers",
        "let a model answer the prompts of a training set in its native format",
    ),
    "data canaries": Command(
        "harness.cli.data", "canaries", "write secrets to train on, and others to compare them with"
    ),
    "data convert": Command(
        "harness.cli.data",
        "convert",
        "write ShareGPT, Alpaca, Parquet, … as JSON lines of messages",
    ),
    "data check": Command("harness.cli.data", "check", "find mistakes in a training set"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0 fine, 1 findings, 2 a mistake in the input, 130 interrupted.
    """
    return run_command(_dispatch, list(sys.argv[1:] if argv is None else argv))


def run_command(command: Callable[[list[str]], int], args: list[str]) -> int:
    """Call a command and turn what ends it early into a line on standard error and an exit code."""
    try:
        return command(args)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(
            "\ninterrupted: finished work is kept, and the same command resumes from there",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) went away: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(help_text())
        return EXIT_OK
    if args[0] in ("-V", "--version"):
        from harness import __version__

        print(f"harness {__version__}")
        return EXIT_OK
    name = args[0]
    verbs = [key.split(" ", 1)[1] for key in COMMANDS if key.startswith(name + " ")]
    if verbs:
        if len(args) < 2 or args[1] in ("-h", "--help"):
            print(help_text(name))
            return EXIT_OK
        if args[1] not in verbs:
            raise HarnessError(f"unknown command {name} {args[1]!r}", hint=nearest(args[1], verbs))
        name = f"{name} {args[1]}"
    if name not in COMMANDS:
        raise HarnessError(
            f"unknown command {name!r}", hint=nearest(name, {key.split(" ")[0] for key in COMMANDS})
        )
    command = COMMANDS[name]
    rest = args[len(name.split(" ")) :]
    with explain_missing(f"harness {name}"):
        function = getattr(importlib.import_module(command.module), command.function)
        return int(function(rest) or EXIT_OK)


def help_text(noun: str = "") -> str:
    """The list of commands, of one noun or of all."""
    shown = {
        key: command for key, command in COMMANDS.items() if not noun or key.startswith(noun + " ")
    }
    width = max(map(len, shown))
    lines = [f"  {key:{width}}  {command.summary}" for key, command in shown.items()]
    head = f"usage: harness {noun or '<command>'}{' <verb>' if noun else ''} [options]\n"
    tail = (
        ""
        if noun
        else "\n\nharness <command> --help explains a command; harness --version tells the version."
    )
    return head + "\n" + "\n".join(lines) + tail


def entry() -> None:
    """The console script."""
    sys.exit(main())
