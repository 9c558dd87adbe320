"""A count below its least, NaN or infinity is one line and exit code 2, in every command."""

from __future__ import annotations

import pytest

from harness.cli.main import COMMANDS, main
from harness.errors import HarnessError
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.training.config import parse_config

#: Command and flag → values that are refused before anything is read or loaded.
REFUSED = {
    "eval m --limit": ("0", "-3", "x", "1e3"),
    "eval m --max-new-tokens": ("0", "-1"),
    "eval m --samples-per-case": ("0",),
    "eval m --concurrency": ("0",),
    "eval m --recall-examples": ("0",),
    "eval m --temperature": ("-1", "nan", "inf"),
    "eval m --top-p": ("0", "nan", "inf", "1.1"),
    "eval m --top-k": ("-1",),
    "eval m --seed": ("-1",),
    "eval m --retries": ("-1",),
    "demo --limit": ("0", "-3"),
    "demo --num-train-epochs": ("0", "nan", "-1"),
    "gate init --model m --limit": ("0", "-3"),
    "data answers --max-new-tokens": ("0", "-1"),
    "data answers --limit": ("-1",),
    "data check --longest": ("0", "-1"),
    "data canaries out --n": ("0", "-1"),
    "data canaries out --seed": ("-1",),
    "formats sample --n": ("0", "-1"),
    "formats sample --seed": ("-1",),
    "phrases texts.jsonl --against other.jsonl --limit": ("-1",),
    "preview sft.json --trainer trl --rows": ("-1",),
    "sweep run.toml --jobs": ("0", "-1"),
    "pick run --margin": ("nan", "inf", "-1"),
    "pick run --seed": ("-1",),
    "average run --last": ("-1",),
    "average run --rank": ("-1",),
    "view run --port": ("-1", "65536"),
}


@pytest.mark.parametrize(
    ("command", "value"),
    [(command, value) for command, values in REFUSED.items() for value in values],
)
def test_a_value_out_of_range_is_one_line_that_names_the_flag(command, value, capsys, tmp_path):
    assert main([*command.split(" "), value]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and command.split(" ")[-1] in line, line


def test_every_flag_for_a_count_of_every_command_is_tried():
    """A new command with a limit has to be added above."""
    tried = {command.split(" --")[0].split(" m")[0] for command in REFUSED}
    for name, command in COMMANDS.items():
        from importlib import import_module
        from inspect import getsource

        module = import_module(f"harness.cli.{command.module}")
        source = getsource(getattr(module, command.function))
        if "at_least(" in source:
            assert any(each.startswith(name) for each in tried), name


@pytest.mark.parametrize("name", ["limit", "max_new_tokens", "samples_per_case"])
def test_python_refuses_the_same(name):
    for value in (0, -3)[name == "max_new_tokens" :]:  # there 0 follows the references
        with pytest.raises(HarnessError, match=f"invalid {name} {value}"):
            if name == "limit":
                EvalJob("m", limit=value)
            else:
                EvalJob("m", settings=EvalSettings(**{name: value}))
    EvalJob("m", limit=1)


def test_a_seed_that_torch_cannot_take_is_refused():
    for seed in (-1, 2**63):
        with pytest.raises(HarnessError, match="seed"):
            parse_config({"seed": seed})
    parse_config({"seed": 2**63 - 1})
