"""Dispatch: ``harness <noun> [<verb>]`` → the function of that command."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, HarnessError, nearest
from harness.extras import explain_missing
from harness.terminal import silent_streams, visible_streams
from harness.version import __version__

#: The flags of every command after which it prints nothing but errors, and what was asked for.
QUIET = ("--quiet", "-q")
#: The names of the console script.
PROGRAMS = ("harness", "formatproof")


@dataclass(frozen=True, slots=True)
class Command:
    """A command's function and its line in the help."""

    module: str
    function: str
    summary: str


#: Groups of commands; in each: command, its module of ``harness.cli`` and function, summary.
_TABLE = """
# Check a model
eval            evaluate.evaluate       measure a model across prompt formats and write the report
compare         compare.compare         compare two evaluations case by case; exit 1 on a regression
view            view.view               show a run in the browser, also while it runs
audit           audit.audit             look for behaviours that an adapter shows in one format only
gate init       gate.init               write the regression gate and its CI workflow
report          report.report           rebuild the report pages from a report.json
results query   results.query           print a results file: metrics, or all questions and answers
results export  results.export          write a results file as CSV, Parquet or JSON lines

# Train
train           train.train             train a LoRA adapter across prompt formats
sweep           sweep.sweep             train over a grid of settings and draw the map
recipes list    recipes.list_recipes    list the shipped recipes for harness train
recipes copy    recipes.copy            write a shipped recipe to a file of your own
preview         preview.preview         show a conversation's tokens and mark the trained ones

# Training runs
resume          runs.resume             resume an interrupted training run
branch          runs.branch             start a new run from a checkpoint of another
tree            runs.tree               draw the tree of runs that a run belongs to
pick            runs.pick               find the turning point of a run and its best checkpoint
average         runs.average            average checkpoints of a run into an adapter

# Ship
ship            ship.ship               make what each runtime needs, and check it against training
merge           merge.merge             merge an adapter into its base model
export          export.export           prepare an adapter for sharing: template, stops, model card

# Formats
formats list    formats.list_formats    list the known prompt formats
formats show    formats.show            print the file of a format: its facts and its template
formats render  formats.render_file     print a conversation in a format, byte for byte
formats check   formats.check           compute the properties of formats, explain their problems
formats sample  formats.sample_formats  sample procedural formats from a grammar
formats guess   guess.guess             guess which format an adapter was trained in
formats import  exchange.import_        make a format file from a model, a GGUF file or a preset
formats export  exchange.export         write a format for another program
formats detect  exchange.detect         find the known format that a chat template equals

# Data and texts
data check      data.check              find mistakes in a training set
data convert    data.convert            write ShareGPT, Alpaca, Parquet … as JSON lines of messages
data answers    data.answers            let a model answer the prompts of a training set
data canaries   data.canaries           write secrets to train on, and untrained controls
recall          recall.recall           find outputs that copy a training set, and where
drift           drift.drift             find texts that slip into another language
phrases         phrases.phrases         count canned phrases and their lift, find new ones

# More
demo            demo.demo               evaluate SmolLM2-135M, train it, evaluate it again, report
completion      completion.completion   print the script that completes commands in a shell
"""


def _groups() -> dict[str, dict[str, Command]]:
    groups: dict[str, dict[str, Command]] = {}
    for paragraph in _TABLE.strip().split("\n\n"):
        title, *lines = paragraph.splitlines()
        commands = groups[title.removeprefix("# ")] = {}
        for line in lines:
            name, place, summary = re.split(" {2,}", line)
            module, function = place.split(".")
            commands[name] = Command(module, function, summary)
    return groups


#: Errors of files that are not our bug, wherever they occur → what to do.
_FILE_ERRORS = {
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "its links lead back to itself",
    errno.ENOSPC: "free some space, and start the same command again",
    errno.EROFS: "choose another path",
}
#: The commands by purpose, as the help shows them.
GROUPS = _groups()
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0 success, 1 findings, 2 a mistake in the input, 130 interrupted. Our
    own bugs are raised.
    """
    return run_command(_dispatch, list(sys.argv[1:] if argv is None else argv))


def run_command(command: Callable[[list[str]], int], args: list[str]) -> int:
    """Call a command and turn what ends it early into a line on standard error and an exit code.

    Whatever it prints, control characters are shown and not obeyed (harness.terminal).
    """
    with visible_streams():
        try:
            return command(args)
        except HarnessError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USAGE
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            print(f"error: {_out_of_memory(error)}", file=sys.stderr)
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
        except OSError as error:
            if error.errno not in _FILE_ERRORS or not error.filename:
                raise
            hint = _FILE_ERRORS[error.errno]
            wrong = HarnessError(str(error.strerror).lower(), str(error.filename), hint)
            print(f"error: {wrong}", file=sys.stderr)
            return EXIT_USAGE


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ended where nothing smaller could be tried. Torch is not loaded for this."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from harness.models.device import is_out_of_memory

    return is_out_of_memory(error)


def _out_of_memory(error: Exception) -> HarnessError:
    first = next(iter(str(error).splitlines()), "").removesuffix(".")
    return HarnessError(
        "out of memory" + f": {first}" * bool(first),
        hint="end other programs, load the model in four bits, or compute less at a time",
    )


def _dispatch(args: list[str]) -> int:
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    if not args or args[0] in ("-h", "--help"):
        print(help_text())
        return EXIT_OK
    if args[0] in ("-V", "--version", "version"):
        print(f"{program()} {__version__}")
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
    quiet = any(word in QUIET for word in rest)
    rest = [word for word in rest if word not in QUIET]
    with explain_missing(f"harness {name}"), silent_streams() if quiet else nullcontext():
        module = importlib.import_module(f"harness.cli.{command.module}")
        function = getattr(module, command.function)
        return int(function(rest) or EXIT_OK)


def help_text(noun: str = "") -> str:
    """The list of commands: all in their groups, or those of one noun."""
    width = max(map(len, COMMANDS))
    groups = GROUPS
    if noun:
        shown = {key: COMMANDS[key] for key in COMMANDS if key.startswith(noun + " ")}
        groups, width = {"": shown}, max(map(len, shown))
    name = program()
    lines = [f"usage: {name} {noun or '<command>'}{' <verb>' if noun else ''} [options]"]
    for title, commands in groups.items():
        lines += ["", f"{title}:"] if title else [""]
        lines += [f"  {key:{width}}  {command.summary}" for key, command in commands.items()]
    if not noun:
        lines += [
            "",
            f"{name} <command> --help explains a command; {name} --version prints the version.",
        ]
    return "\n".join(lines)


def program() -> str:
    """The name that the user called the command by."""
    name = Path(sys.argv[0]).stem
    return name if name in PROGRAMS else PROGRAMS[0]


def entry() -> None:
    """The console script. A mistake of ours ends with its traceback and exit code 3.

    Else a job could not tell a crash from findings: Python itself exits with 1.
    """
    try:
        code = main()
    except Exception:
        traceback.print_exc()
        print(
            f"{program()} {__version__}: this is a bug in formatproof. Please report it with your "
            "command and the lines above.",
            file=sys.stderr,
        )
        code = EXIT_BUG
    sys.exit(code)
