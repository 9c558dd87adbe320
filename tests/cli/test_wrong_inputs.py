"""Wrong inputs of every command: each is one exact line on standard error, and exit code 2.

The table, wrong_inputs.txt, has a command and its line in each block. A changed message changes it:
read the new line as a user would before you write it there.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import COMMANDS, main

BLOCKS = Path(__file__).with_name("wrong_inputs.txt").read_text(encoding="utf-8").split("\n\n")
ROWS = [tuple(block.strip().removeprefix("$ ").split("\n")) for block in BLOCKS]
NEEDS_TORCH = (
    "eval",
    "train",
    "merge",
    "export",
    "ship",
    "preview",
    "formats check --model",
    "formats guess",
    "audit",
    "branch",
    "average",
    "resume",
    "sweep",
)
GOOD = {"messages": [{"role": "user", "content": "q?"}, {"role": "assistant", "content": "four"}]}
FILES: dict[str, str | bytes] = {
    "empty.jsonl": "",
    "blank.jsonl": "\n\n",
    "bad.jsonl": '{"messages": [\n',
    "bin.jsonl": bytes(range(256)),
    "good.jsonl": json.dumps(GOOD) + "\n",
    "noasst.jsonl": json.dumps({"messages": GOOD["messages"][:1]}) + "\n",
    "masked.jsonl": json.dumps(
        {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "train": False}]}
    )
    + "\n",
    "list.json": "[1,2]",
    "obj.json": '{"a":1}',
    "broken.json": "{",
    "axolotl.yml": "base_model: x\ndatasets:\n  - path: y\n",
    "sft.json": '{"num_train_epochs": 1, "learning_rate": 1e-4}',
    "norows.json": '{"model_name_or_path": "m", "num_train_epochs": 1}',
    "dpo.yml": "base_model: m\nrl: dpo\n",
    "bad.toml": "model = \n",
    "empty.toml": "# nothing yet\n",
    "unk.toml": 'model = "m"\nlearning_rat = 1\n',
    "sec.toml": '[optimisation]\nlearning_rate = "fast"\n',
    "zero.toml": 'model = "m"\n[data]\ntrain = ["empty.jsonl"]\n',
    "ok.toml": 'model = "m"\n[data]\ntrain = ["good.jsonl"]\n[formats]\ntrain = ["chatml"]\n',
    "lr.toml": 'model = "m"\n[optimisation]\nlearning_rate = -1\n',
    "file.txt": "hello",
    "msgs.json": json.dumps(GOOD["messages"][:1]),
    "badrole.json": json.dumps([{"role": "usr", "content": "fox"}]),
    "t.jinja": "{% for m in messages %}{{ m.content }",
    "fake.sqlite": "no",
    "void.sqlite": "",
    "cases.jsonl": '{"id":"a","messages":[{"role":"user","content":"x"}],"kind":"c"}\n',
    "cases2.jsonl": '{"id":"a","messages":[{"role":"user","content":"x"}]}\n',
    "out.jsonl": '{"text":"hello there"}\n',
    "metric.py": 'raise RuntimeError("x")\n',
    "cfg/config.json": "{",
    "adapter/adapter_config.json": "{}",
    "run/run.json": json.dumps(
        {
            "digest": "x",
            "trained_formats": [],
            "trained_families": [],
            "held_out_formats": [],
            "config": {},
        }
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one of everything that is wrong."""
    root = tmp_path_factory.mktemp("wrong")
    for name, content in FILES.items():
        file = root / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (root / "nof").mkdir()
    return root


def ended(command, capsys):
    """Exit code, output and error."""
    code = main(shlex.split(command))
    return code, *capsys.readouterr()


def said(line, folder):
    return 2, "", line.replace("HERE", str(folder)) + "\n"


def _ids(rows):
    return [re.sub(r"\W+", "-", command) for command, _ in rows]


LIGHT = [row for row in ROWS if not row[0].startswith(NEEDS_TORCH)]
LOCAL = [row for row in ROWS if row[0].startswith(NEEDS_TORCH)]


@pytest.mark.parametrize(("command", "line"), LIGHT, ids=_ids(LIGHT))
def test_without_a_model(command, line, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert ended(command, capsys) == said(line, folder)


@pytest.mark.local
@pytest.mark.parametrize(("command", "line"), LOCAL, ids=_ids(LOCAL))
def test_with_a_model(command, line, folder, tiny_model, monkeypatch, capsys):
    if not (folder / "m").exists():
        (folder / "m").symlink_to(tiny_model)
    monkeypatch.chdir(folder)
    assert ended(command, capsys) == said(line, folder)


def test_the_table_is_large_and_names_most_commands():
    assert len(ROWS) >= 120 and len({command for command, _ in ROWS}) == len(ROWS)
    named = {name for name in COMMANDS if any(f"{row[0]} ".startswith(f"{name} ") for row in ROWS)}
    assert len(named) >= 24, set(COMMANDS) - named
    assert all(line.startswith("error: ") for _, line in ROWS)
