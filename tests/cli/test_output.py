"""--json and --quiet of every command: one JSON document, or nothing."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import COMMANDS, main
from harness.gate.baseline import to_baseline
from harness.gate.baseline_file import SCORES_FILE, write_baseline
from harness.report.json_document import to_json
from tests.gate.conftest import build_evaluation
from tests.report.fixture import report

ROW = {"messages": [{"role": "user", "content": "fox?"}, {"role": "assistant", "content": "dog."}]}
SMALL = "--formats chatml --cases cases.jsonl --max-new-tokens 2"
RUN = """model = "m"
output_dir = "run"
dtype = "float32"
[adapter]
lora_r = 2
[data]
train = ["rows.jsonl"]
[formats]
train = ["chatml"]
held_out = ["llama3"]
[optimisation]
max_steps = 2
[checkpoints]
save_steps = 1
[evaluation]
references = 2
recall_rows = 0
"""
#: A call of each command that needs no model.
LIGHT = {
    "completion": "bash",
    "compare": "one two",
    "gate init": "--model m --root new",
    "report": "report.json --out pages",
    "formats list": "",
    "formats show": "chatml",
    "formats render": "chatml chat.json",
    "formats check": "chatml",
    "formats sample": "--n 2",
    "formats import": "t.jinja --id t --out imported --force",
    "formats export": "chatml --to hf",
    "formats detect": "t.jinja",
    "recipes list": "",
    "recipes copy": "over-training --force",
    "data check": "rows.jsonl",
    "data convert": "rows.jsonl",
    "data canaries": "canaries --n 2 --controls 2 --force",
    "recall": "rows.jsonl --against rows.jsonl",
    "drift": "rows.jsonl",
    "phrases": "rows.jsonl --against rows.jsonl",
}
#: A call of each command that does, in an order in which each finds what it needs.
LOCAL = {
    "eval": f"m --out evaluated {SMALL}",
    "results query": "evaluated",
    "results export": "evaluated scores.csv",
    "train": "run.toml",
    "preview": "chat.json --format chatml --model m",
    "resume": "run",
    "branch": "run --from step:1 --set learning_rate=1e-5 --only-create --out {}",
    "formats guess": "run",
    "audit": "run --native chatml --formats zephyr",
    "tree": "run",
    "pick": "run",
    "average": "run --last 2 --out {}",
    "merge": "run --out {}",
    "export": "run --format chatml --out {}",
    "ship": "run --format chatml --behaviour none --out {}",
    "sweep": "run.toml --grid learning_rate=1e-4,1e-3 --dry-run",
    "data answers": "rows.jsonl --model m --native chatml --max-new-tokens 1 --out {}",
}
ELSEWHERE = {
    "view": "serves until it is stopped: tests/view",
    "demo": "takes minutes: tests/slow",
}
#: What is printed is what was asked for: with --quiet too.
TEXT = ("completion", "formats show", "formats render", "formats export", "data convert")


def fill(folder: Path) -> None:
    (folder / "rows.jsonl").write_text((json.dumps(ROW) + "\n") * 4)
    (folder / "chat.json").write_text(json.dumps(ROW["messages"]))
    (folder / "t.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )
    case = {"id": "a", "messages": ROW["messages"][:1], "checks": [{"contains": ["dog"]}]}
    (folder / "cases.jsonl").write_text(json.dumps(case) + "\n")
    (folder / "run.toml").write_text(RUN)


def called(command: str, words: str, flag: str, capsys) -> tuple[int, str, str]:
    capsys.readouterr()
    number = len(list(Path().glob("made-*")))
    words = words.format(f"made-{number}")
    code = main([*command.split(), *shlex.split(words), flag])
    return code, *capsys.readouterr()


def assert_json_and_quiet(command: str, words: str, capsys) -> None:
    code, out, err = called(command, words, "--json", capsys)
    assert code in (0, 1), (command, err)
    json.loads(out)
    quiet_code, out, err = called(
        command, words.replace("--root new", "--root newer"), "--quiet", capsys
    )
    assert (quiet_code, err) == (code, ""), (command, err)
    assert bool(out) == (command in TEXT), (command, out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("output")
    fill(here)
    return here


@pytest.fixture
def compared(folder):
    """Two evaluations to compare, and a report."""
    for name in ("one", "two"):
        found = build_evaluation({("chatml", "stopped"): [1.0] * 40}, native="chatml")
        write_baseline(to_baseline(found), folder / name / SCORES_FILE)
    (folder / "report.json").write_text(to_json(report()))


@pytest.mark.parametrize("command", LIGHT)
def test_without_a_model(command, folder, compared, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert_json_and_quiet(command, LIGHT[command], capsys)


def test_with_a_model(folder, tiny_model, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "m").symlink_to(tiny_model)
    for command, words in LOCAL.items():
        assert_json_and_quiet(command, words, capsys)


def test_every_command_is_tried_above():
    tried = [*LIGHT, *LOCAL, *ELSEWHERE]
    assert sorted(tried) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_both_flags_and_an_example_whose_flags_exist(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    text = shown.getvalue()
    assert "--json" in text and "--quiet" in text
    [example] = re.findall(rf"^Example: (harness {command}(?: .*)?)$", text, re.M)
    options = text.replace(example, "")
    for flag in re.findall(r"(?<= )--[a-z-]+", example):
        assert re.search(rf"{flag}\b", options), flag
    positional = re.split("options", text.partition("positional arguments")[2])[0]
    assert (
        "STR" not in positional
        and "TEXT" not in positional
        and "None" not in text.split("--json")[0]
    )


def test_an_error_is_printed_with_quiet_too(capsys):
    assert main(["formats", "show", "nosuch", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown format 'nosuch'")
    assert main(["formats", "show", "chatml", "-q"]) == 0


def test_json_is_printed_with_quiet_too(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["data", "convert", "rows.jsonl", "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["rows"] and not shown.err
