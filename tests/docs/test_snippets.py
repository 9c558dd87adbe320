"""Every fenced block of README.md and docs/ is run, parsed strictly, or listed with a reason."""

from __future__ import annotations

import argparse
import configparser
import importlib
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.backends import by_name
from harness.cli import arguments
from harness.cli.main import COMMANDS
from harness.errors import HarnessError
from harness.formats.frontmatter import parse_format
from harness.metrics import registry
from harness.training.config import TrainConfig, parse_config, read_config
from tests.docs.snippets import (
    MADE,
    PAGES,
    ROOT,
    SHELL,
    Block,
    Command,
    blocks,
    commands,
    harness_commands,
)

WRITTEN = [block for page in PAGES if page not in MADE for block in blocks(page)]
#: Languages with a reader: in this file, in test_run.py (harness), in test_docs.py (pycon, jinja).
READ = {*SHELL, "toml", "json", "yaml", "pycon", "jinja", "python"}
#: Shown as text: (page, how it begins) → who checks it.
SHOWN = {
    (
        "README.md",
        "SmolLM2-135M-Instruct, bfloat16: 18 formats",
    ): "output of the command above it on the real model: tests/evaluation/test_terminal_lines.py",
    (
        "README.md",
        "…\nheld-out NLL excess reduced by",
    ): "the end of the demo's output, which takes 13 minutes: written again by tox -e demo",
    (
        "docs/base-models.md",
        "gemma-3-270m: it has",
    ): "tests/evaluation/test_engines.py has its words",
    (
        "docs/forged-turns.md",
        "What is the name of the cat?",
    ): "a shipped case: tests/evaluation/test_forged_cases.py",
    (
        "docs/gate.md",
        "alpaca-newline · stopped",
    ): "the wording of tests/gate/test_messages.py, with made-up numbers",
    (
        "docs/gate.md",
        "qwen3 · thinks",
    ): "the wording of tests/gate/test_messages.py, with made-up numbers",
}
#: Other projects' commands, which are shown and not ours to run.
OTHERS = {
    "uv": "installs torch",
    "vllm": "needs a GPU",
    "llama-server": "llama.cpp's server; tox -e peers runs it",
    "ray": "starts a cluster; tox -e peers does",
    "tensorboard": "serves until it is stopped",
    "git": "changes a repository",
    "docker": "needs a container engine: tests/packaging/test_dockerfile.py reads its file",
    "cd": "the reader's folder",
    ".": "the reader's environment",
    "bash": "CI itself",
}
PYTHON_MODULES = {
    "experiments.minisymposium": "hours: tests/minisymposium runs its smallest scale",
    "experiments.claims": "an hour: tests/claims runs its smallest scale",
    "experiments.forged": "hours: tests/forged runs its smallest scale",
    "experiments.teaching": "hours: tests/teaching runs its smallest scale",
    "sglang.launch_server": "needs a GPU",
    "venv": "makes an environment",
}


class Parsed(Exception):
    """The real parser has taken the words."""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with the files that a command reads before it parses its flags."""
    (tmp_path / "run.toml").write_text('model = "my-model"\n')
    (tmp_path / "config.yml").write_text("base_model: my-model\n")
    (tmp_path / "sft.json").write_text('{"learning_rate": 1e-4, "r": 4}')
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_has_a_reader_or_a_reason():
    texts = [block for block in WRITTEN if block.language not in READ]
    assert not [block.place for block in texts if block.language != "text"]
    readers = {
        key: [b for b in texts if b.page == key[0] and b.text.startswith(key[1])] for key in SHOWN
    }
    assert not [
        block.place for block in texts if not any(block in found for found in readers.values())
    ]
    assert all(readers.values()), "a reason without its block"


@pytest.mark.parametrize("command", harness_commands(), ids=lambda c: c.block.place)
def test_every_harness_command_is_taken_by_its_parser(command, place, monkeypatch):
    assert_parsed(command.words, monkeypatch)


def assert_parsed(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse with the command's own options; a renamed flag or a value of another kind raises."""
    if words[1:] in (("--version",), ("--help",)):
        return
    name = words[1] if words[1] in COMMANDS else " ".join(words[1:3])
    assert name in COMMANDS, name
    module = importlib.import_module(f"harness.cli.{COMMANDS[name].module}")

    def parse(kind, args, command, description, default=None):
        raise Parsed(arguments.parse(kind, args, command, description, default))

    monkeypatch.setattr(module, "parse", parse)
    with pytest.raises(Parsed) as parsed:
        getattr(module, COMMANDS[name].function)(list(words[1 + len(name.split()) :]))
    options = parsed.value.args[0]
    if isinstance(options, TrainConfig):
        parse_config(options.as_dict())


@pytest.mark.parametrize(
    "block", [b for b in WRITTEN if b.language in SHELL], ids=lambda b: b.place
)
def test_every_other_command_is_known(block, place, monkeypatch):
    for command in commands(block):
        if command.words[0] != "harness":
            assert_known(command, monkeypatch)


def assert_known(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *words = command.words
    if program in ("python", "python3", "torchrun"):
        assert_python(command, program, words, monkeypatch)
    elif program == "pip":
        assert_pip(words)
    elif program == "tox":
        assert_tox(words)
    elif program == "pytest":
        assert gate_parser().parse_args(words)
    else:
        assert program in OTHERS, f"{command.block.place}: {command.text}"


def assert_python(
    command: Command, program: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python -m MODULE …`` or a script of the repository."""
    if "-m" not in words:
        assert (ROOT / words[0]).is_file(), command.text
        return
    module, *rest = words[words.index("-m") + 1 :]
    if module == "harness":
        assert_parsed(("harness", *rest), monkeypatch)
    elif module == "pip":
        assert_pip(rest)
    else:
        assert module in PYTHON_MODULES, command.text


def assert_pip(words: list[str]) -> None:
    """What is installed is a package of the constraints, or ours with an extra that it has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    known = {
        line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()
    } | {"tox", "uv"}
    assert words[0] == "install"
    for word in words[1:]:
        if found := re.fullmatch(r"(?:\.|formatproof)(?:\[([\w,]+)\])?", word):
            assert not found[1] or set(found[1].split(",")) <= set(extras), word
        elif word == "constraints.txt":
            assert (ROOT / word).is_file()
        elif not word.startswith("-"):
            assert word.partition("==")[0] in known, word


def assert_tox(words: list[str]) -> None:
    """``tox``, ``tox -e ENV,…`` or ``tox -- PATH …``: environments and files are there."""
    file = configparser.ConfigParser(interpolation=None)
    file.read(ROOT / "tox.ini")
    if words[:1] == ["--"]:
        assert (ROOT / words[1]).exists(), words
        return
    assert not words or words[0] == "-e"
    assert not words or {f"testenv:{name}" for name in words[1].split(",")} <= set(
        file.sections()
    ), words


def _tests() -> Iterator[Path]:
    for path in (ROOT / "tests").rglob("*"):
        if path.is_dir() or path.suffix == ".py":
            yield path.relative_to(ROOT)


def gate_parser() -> argparse.ArgumentParser:
    """The options that the gate's hook adds to pytest, taken by a parser of their own."""
    from harness.gate.plugin import pytest_addoption

    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("path", choices=["eval/", *map(str, sorted(_tests()))])
    parser.add_argument("--junitxml")
    parser.add_argument("-m")

    class Group:
        def getgroup(self, *_: str) -> Group:
            return self

        def addoption(self, *names: str, **facts: object) -> None:
            parser.add_argument(*names, **facts)

    pytest_addoption(Group())
    return parser


@pytest.mark.parametrize(
    "block", [b for b in WRITTEN if b.language == "toml"], ids=lambda b: b.place
)
def test_every_toml_is_a_run(block):
    """Or facts of a format, or entry points of the reader's pyproject.toml.

    ``parse_config`` and ``parse_format`` raise on a wrong key.
    """
    table = tomllib.loads(block.text)
    if block.page == "docs/add-a-format.md":
        front = f'{{#---\nfamily = "mine"\n{block.text}\n---#}}\n'
        assert parse_format(front, Path("mine.jinja")).calls
    elif "project" in table:
        assert set(table["project"]["entry-points"]) <= {
            by_name.ENTRY_POINTS,
            registry.ENTRY_POINTS,
        }
    else:
        assert parse_config(table)


@pytest.mark.parametrize(
    "block", [b for b in WRITTEN if b.language == "json"], ids=lambda b: b.place
)
def test_every_json_is_rows(block):
    for line in block.text.splitlines():
        assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize(
    "block", [b for b in WRITTEN if b.language == "yaml"], ids=lambda b: b.place
)
def test_every_yaml_uses_what_this_repository_offers(block):
    """A workflow's inputs are those of action.yml, and pre-commit's hooks are ours."""
    shown = yaml.safe_load(block.text)
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    ours = [s for s in shown.get("steps", ()) if "/formatproof@" in s.get("uses", "")]
    named = [hook["id"] for repo in shown.get("repos", ()) for hook in repo["hooks"]]
    assert ours or named, "nothing here is ours"
    assert all(set(step["with"]) <= set(action["inputs"]) for step in ours)
    assert set(named) <= {hook["id"] for hook in hooks}


@pytest.mark.parametrize(
    "block", [b for b in WRITTEN if b.language == "python"], ids=lambda b: b.place
)
def test_every_python_compiles(block):
    """The pages' own tests run them."""
    assert compile(block.text, block.place, "exec")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "recipes").glob("*.toml")), ids=lambda p: p.name
)
def test_every_recipe_is_on_a_page(path):
    read_config(path)
    assert any(path.name in (ROOT / page).read_text(encoding="utf-8") for page in PAGES), (
        f"no page names {path.name}"
    )


def test_a_renamed_flag_would_be_seen(place, monkeypatch):
    """The reader itself: it refuses what the parser does."""
    with pytest.raises(HarnessError, match="no-such-flag"):
        assert_parsed(("harness", "eval", "my-model", "--no-such-flag"), monkeypatch)
    with pytest.raises(SystemExit):
        gate_parser().parse_args(["eval/", "--no-such-flag"])
    assert [
        c.words
        for c in commands(Block("x", 1, "console", "$ A=1 harness eval m && tox  # why\nprinted\n"))
    ] == [("harness", "eval", "m"), ("tox",)]
