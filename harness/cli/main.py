"""Dispatch: ``harness <noun> [<verb>]`` → the function of that command."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, HarnessError, nearest
from harness.extras import explain_missing
from harness.terminal import visible_streams

#: The names of the console script.
PROGRAMS = ("harness", "formatproof")


@dataclass(frozen=True, slots=True)
class Command:
    """A command's function and its line in the help."""

    module: str
    function: str
    summary: str


#: Command, its module of ``harness.cli`` and function, summary.
_TABLE = """
eval            evaluate.evaluate       measure a model across prompt formats and write the report
train           train.train             train a LoRA adapter across prompt formats
compare         compare.compare         compare two evaluations case by case; exit 1 on a regression
gate init       gate.init               write the regression gate and its CI workflow
resume          runs.resume             resume an interrupted training run
branch          runs.branch             start a new run from a checkpoint of another
tree            runs.tree               draw the tree of runs that a run belongs to
pick            runs.pick               find the turning point of a run and its best checkpoint
average         runs.average            average checkpoints of a run into an adapter
sweep           sweep.sweep             train over a grid of settings and draw the map
merge           merge.merge             merge an adapter into its base model
export          export.export           prepare an adapter for sharing: template, stops, model card
demo            demo.demo               evaluate SmolLM2-135M, train it, evaluate it again, report
report          report.report           write the pages again from a report.json
view            view.view               show a run in the browser, also while it runs
results query   results.query           print a results file: metrics, or all questions and answers
results export  results.export          write a results file as CSV, Parquet or JSON lines
preview         preview.preview         show a conversation's text and tokens, trained ones marked
formats list    formats.list_formats    list the known prompt formats
formats show    formats.show            print the file of a format: its facts and its template
formats render  formats.render_file     print a conversation in a format, byte for byte
formats check   formats.check           compute the properties of formats, explain their problems
formats sample  formats.sample_formats  sample procedural formats from a grammar
formats import  exchange.import_        make a format file from a model, a GGUF file or a preset
formats export  exchange.export         write a format for another program
formats detect  exchange.detect         find the known format that a chat template equals
recall          recall.recall           find outputs that copy a training set, and where
phrases         phrases.phrases         count canned phrases and their lift, find new ones
drift           drift.drift             find texts that slip into another language
data answers    data.answers            let a model answer the prompts of a training set
data canaries   data.canaries           write secrets to train on, and controls to compare with
data convert    data.convert            write ShareGPT, Alpaca, Parquet … as JSON lines of messages
data check      data.check              find mistakes in a training set
"""


def _commands() -> Iterator[tuple[str, Command]]:
    for line in _TABLE.strip().splitlines():
        name, place, summary = re.split(" {2,}", line)
        module, function = place.split(".")
        yield name, Command(module, function, summary)


COMMANDS = dict(_commands())


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0 fine, 1 findings, 2 a mistake in the input, 130 interrupted.
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
    if not args or args[0] in ("-h", "--help"):
        print(help_text())
        return EXIT_OK
    if args[0] in ("-V", "--version"):
        from harness.version import __version__

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
    with explain_missing(f"harness {name}"):
        module = importlib.import_module(f"harness.cli.{command.module}")
        function = getattr(module, command.function)
        return int(function(rest) or EXIT_OK)


def help_text(noun: str = "") -> str:
    """The list of commands, of one noun or of all."""
    shown = {
        key: command for key, command in COMMANDS.items() if not noun or key.startswith(noun + " ")
    }
    width = max(map(len, shown))
    lines = [f"  {key:{width}}  {command.summary}" for key, command in shown.items()]
    name = program()
    head = f"usage: {name} {noun or '<command>'}{' <verb>' if noun else ''} [options]\n"
    tail = (
        f"\n\n{name} <command> --help explains a command; {name} --version prints the version."
        if not noun
        else ""
    )
    return head + "\n" + "\n".join(lines) + tail


def program() -> str:
    """The name that the user called the command by."""
    name = Path(sys.argv[0]).stem
    return name if name in PROGRAMS else PROGRAMS[0]


def entry() -> None:
    """The console script."""
    sys.exit(main())
