"""harness completion: a script with which a shell completes commands, options and format ids."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from harness.cli.arguments import parse
from harness.cli.main import COMMANDS, PROGRAMS, main
from harness.cli.output import print_json
from harness.errors import EXIT_OK
from harness.formats import load_formats
from harness.terminal import write_exactly

Shell = Literal["bash", "zsh", "fish"]
#: Options whose value is the id of a format; so is the first argument of these commands.
_ID_OPTIONS = ("--formats", "--format", "--native")
_ID_COMMANDS = ("formats show", "formats render", "formats export", "formats check")


@dataclass(frozen=True)
class CompletionOptions:
    shell: Annotated[Shell, tyro.conf.Positional, tyro.conf.arg(metavar="bash|zsh|fish")]
    """The shell that is to complete."""
    json: bool = False
    """Print {"shell", "script"} as JSON."""


@dataclass(frozen=True)
class Option:
    """An option as the help shows it. ``choices`` are its values, where there are only a few."""

    flag: str
    takes_value: bool
    choices: tuple[str, ...]


def completion(args: list[str]) -> int:
    """Print the script with which a shell completes commands, options and format ids.

    bash: harness completion bash > ~/.local/share/bash-completion/completions/harness

    zsh: harness completion zsh > a file _harness in a folder of $fpath

    fish: harness completion fish > ~/.config/fish/completions/harness.fish

    Example: harness completion bash
    """
    options = parse(CompletionOptions, args, "completion", completion.__doc__)
    text = script(options.shell)
    if options.json:
        print_json({"shell": options.shell, "script": text})
    else:
        write_exactly(text)
    return EXIT_OK


def script(shell: Shell) -> str:
    """The script, made from the help of every command; this takes some seconds."""
    options = {name: options_of(name) for name in COMMANDS}
    ids = ["common", "all", *load_formats()]
    writers = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return "\n".join(writers[shell](options, ids)) + "\n"


def options_of(command: str) -> list[Option]:
    """The options that a command's help shows."""
    shown, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"  # one box below the other, and the text of an option indented
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            main([*command.split(), "--help"])
    finally:
        del os.environ["COLUMNS"]
        os.environ |= {} if before is None else {"COLUMNS": before}
    found = {}
    for line in re.findall(r"^[^\w\s-]? {0,2}(-.*)", shown.getvalue(), re.M):
        names = re.split(r"  ", line, maxsplit=1)[0].rstrip("│| ")
        for flag, value in re.findall(
            r"(--[a-z][\w-]*)(?: (\{[^}]*\}|[^-,{][^,]*))?(?=,|$)", names
        ):
            choices = re.fullmatch(r"\{([^{}]*)\}", value)
            found[flag] = Option(flag, bool(value), tuple(choices[1].split(",")) if choices else ())
    return list(found.values())


def _nouns() -> dict[str, list[str]]:
    """``formats`` → its verbs."""
    nouns: dict[str, list[str]] = {}
    for name in COMMANDS:
        noun, _, verb = name.partition(" ")
        if verb:
            nouns.setdefault(noun, []).append(verb)
    return nouns


def _firsts() -> dict[str, str]:
    """First words and what they do."""
    firsts = {name: command.summary for name, command in COMMANDS.items() if " " not in name}
    return firsts | {noun: ", ".join(verbs) for noun, verbs in _nouns().items()}


def _values(options: dict[str, list[Option]], ids: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Patterns of ``COMMAND PREVIOUS-WORD``, and the words that may follow."""
    for name, found in options.items():
        for option in found:
            if option.choices:
                yield f"'{name} {option.flag}'", list(option.choices)
    yield "|".join(f"*' {flag}'" for flag in _ID_OPTIONS), ids
    yield "|".join(f"'{name} {name.split()[1]}'" for name in _ID_COMMANDS), ids


def _bash(options: dict[str, list[Option]], ids: list[str]) -> Iterator[str]:
    yield "# bash completion of harness: written by harness completion bash"
    yield "_harness() {"
    yield "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}"
    yield "  local command=${COMP_WORDS[1]} at=$COMP_CWORD found='' flags=''"
    yield "  COMPREPLY=()"
    yield from _cases(options, ids, "${COMP_WORDS[2]}", "found={}", "flags={}", 1)
    yield '  if [ -n "$found" ]; then COMPREPLY=($(compgen -W "$found" -- "$cur")); fi'
    yield "}"
    yield f"complete -o default -F _harness {' '.join(PROGRAMS)}"


def _zsh(options: dict[str, list[Option]], ids: list[str]) -> Iterator[str]:
    yield f"#compdef {' '.join(PROGRAMS)}"
    yield "# written by harness completion zsh"
    yield "_harness() {"
    yield '  local cur=$words[CURRENT] prev=$words[CURRENT-1] command="$words[2]" at=$CURRENT'
    yield "  local -a found flags"
    yield from _cases(options, ids, "$words[3]", "found=({})", "flags=({})", 2)
    yield "  if (( $#found )); then compadd -a found; else _files; fi"
    yield "}"
    yield 'if [ "${funcstack[1]}" = _harness ]; then _harness "$@"; else'
    yield f"  compdef _harness {' '.join(PROGRAMS)}"
    yield "fi"


def _cases(
    options: dict[str, list[Option]],
    ids: list[str],
    verb: str,
    found: str,
    flags: str,
    first: int,
) -> Iterator[str]:
    """What bash and zsh have in common. ``found`` and ``flags`` assign words; ``{}`` is a list."""

    def words(assign: str, values: list[str]) -> str:
        return assign.format(" ".join(values) if "(" in assign else shlex.quote(" ".join(values)))

    yield f"  if [ $at -eq {first} ]; then {words(found, list(_firsts()))}; else"
    yield '    case "$command" in'
    for noun, verbs in _nouns().items():
        yield f"      {noun})"
        yield f"        if [ $at -eq {first + 1} ]; then {words(found, verbs)}; fi"
        yield f'        command="$command {verb}" ;;'
    yield "    esac"
    yield '    case "$command" in'
    for name, known in options.items():
        yield f"      '{name}') {words(flags, [option.flag for option in known])} ;;"
    yield "    esac"
    yield '    case "$command $prev" in'
    for pattern, values in _values(options, ids):
        yield f"      {pattern}) {words(found, values)} ;;"
    yield "    esac"
    copy = 'found=("${flags[@]}")' if "(" in found else "found=$flags"
    yield f'    case "$cur" in -*) {copy} ;; esac'
    yield "  fi"


def _fish(options: dict[str, list[Option]], ids: list[str]) -> Iterator[str]:
    yield "# fish completion of harness: written by harness completion fish"
    yield "function __harness_at"
    yield "  set -l words (commandline -opc)"
    yield "  set -l last (math 1 + (count $argv))"
    yield "  test (count $words) -ge $last; or return 1"
    yield '  test "$words[2..$last]" = "$argv"'
    yield "end"
    yield f"set -l __harness_ids {shlex.join(ids)}"
    for program in PROGRAMS:
        complete = f"complete -c {program}"
        for word, about in _firsts().items():
            yield f"{complete} -f -n __fish_use_subcommand -a {word} -d {shlex.quote(about)}"
        for noun, verbs in _nouns().items():
            for verb in verbs:
                about = shlex.quote(COMMANDS[f"{noun} {verb}"].summary)
                test = f"'__harness_at {noun}; and test (count (commandline -opc)) -eq 2'"
                yield f"{complete} -f -n {test} -a {verb} -d {about}"
        for name, known in options.items():
            at = f"-n '__harness_at {name}'"
            for option in known:
                takes = " -r" * option.takes_value
                if option.choices:
                    takes = f" -x -a {shlex.quote(' '.join(option.choices))}"
                elif option.flag in _ID_OPTIONS:
                    takes = ' -x -a "$__harness_ids"'
                yield f"{complete} {at} -l {option.flag[2:]}{takes}"
            if name in _ID_COMMANDS:
                yield f'{complete} {at} -f -a "$__harness_ids"'
