"""Completion as the shells themselves do it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from harness.cli.completion import options_of, script
from harness.cli.main import COMMANDS
from harness.formats import load_formats

#: Words of the line, the last one unfinished → what is offered, and what is not.
LINES = [
    (["harness", ""], {"eval", "formats", "completion"}, {"list", "--json"}),
    (["harness", "ev"], {"eval"}, {"export"}),
    (["formatproof", "formats", ""], {"list", "import"}, {"eval", "query"}),
    (["harness", "eval", "m", "--lim"], {"--limit"}, {"--json"}),
    (["harness", "eval", "m", "--fail-on", ""], {"broken", "degraded"}, {"chatml"}),
    (["harness", "eval", "m", "--formats", "chatm"], {"chatml", "chatml-bos"}, {"alpaca-newline"}),
    (["harness", "formats", "export", "chatml", "--to", "ll"], {"llamacpp"}, {"ollama"}),
    (["harness", "formats", "show", "alpaca-n"], {"alpaca-newline"}, {"chatml"}),
    (["harness", "data", "convert", "rows.jsonl", "--sch"], {"--schema"}, {"--split"}),
    (["harness", "train", "--lora-"], {"--lora-r", "--lora-alpha"}, {"--limit"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(script(shell))
    return folder


def bash(file, words):
    line = " ".join(f"'{word}'" for word in words)
    return (
        f"source {file}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _harness; "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )


def zsh(file, words):
    """``compadd`` takes the array of words, of which it offers those that begin as typed."""
    line = " ".join(f"'{word}'" for word in words)
    return (
        "compdef() { }; _files() { }; compadd() { print -l -- ${(M)found:#${words[CURRENT]}*} }; "
        f"source {file}; words=({line}); CURRENT={len(words)}; _harness"
    )


def fish(file, words):
    return f"source {file}; complete -C '{' '.join(words)}'"


@pytest.mark.parametrize("shell", [bash, zsh, fish], ids=lambda shell: shell.__name__)
@pytest.mark.parametrize(
    ("words", "offered", "hidden"), LINES, ids=[" ".join(words) for words, _, _ in LINES]
)
def test_a_shell_offers_what_fits(scripts, shell, words, offered, hidden):
    program = shutil.which(shell.__name__)
    if program is None:
        pytest.skip(f"no {shell.__name__} here")
    plain = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell.__name__]
    command = [program, *plain, "-c", shell(scripts / shell.__name__, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {line.split("\t")[0] for line in done.stdout.splitlines()}
    assert offered <= found and not hidden & found, (found, done.stderr)
    assert not done.stderr


def test_every_command_and_its_flags_are_known(scripts):
    text = (scripts / "bash").read_text()
    assert all(f"'{name}') flags=" in text for name in COMMANDS)
    assert all(fmt in text for fmt in load_formats())
    found = {option.flag: option for option in options_of("eval")}
    assert {"--json", "--quiet", "--find-by", "--find-metric", "--formats-dir"} <= set(found)
    assert not found["--json"].takes_value and found["--formats"].takes_value
    assert found["--dtype"].choices == ("auto", "float32", "bfloat16", "float16")


def test_another_shell_is_refused(capsys):
    from harness.cli.main import main

    assert main(["completion", "tcsh"]) == 2
    assert "expected one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err
