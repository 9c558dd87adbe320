"""harness train --init: the recipe is read back as the settings that it was written from."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.training.config import TrainConfig, parse_config, read_config
from harness.training.config.recipe_text import MAIN, commented_toml


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def on_a_terminal(monkeypatch):
    monkeypatch.setattr("harness.cli.train_init._on_a_terminal", lambda: True)


def test_flags_are_in_the_recipe_with_what_they_mean(capsys):
    flags = ["--model", "./m", "--train", "a.jsonl", "b.jsonl:2", "--formats", "chatml", "llama3"]
    flags += ["--held-out", "zephyr", "--learning-rate", "2e-5", "--use-dora"]
    assert main(["train", "mine.toml", "--init", *flags]) == 0
    assert capsys.readouterr().out == "wrote mine.toml\nnext: harness train mine.toml --dry-run\n"
    config = read_config(Path("mine.toml"))
    assert (config.model, config.data.train) == ("./m", ("a.jsonl", "b.jsonl:2"))
    assert (config.formats.train, config.formats.held_out) == (("chatml", "llama3"), ("zephyr",))
    assert config.optimisation.learning_rate == 2e-5 and config.adapter.use_dora
    text = Path("mine.toml").read_text()
    for place in MAIN:
        assert re.search(rf"^# .+\n{place.rpartition('.')[2]} = ", text, re.M), place


def test_without_flags_it_has_the_defaults_and_asks_nothing_off_a_terminal():
    assert main(["train", "--init"]) == 0
    assert read_config(Path("run.toml")) == TrainConfig()


def test_an_existing_recipe_is_kept_unless_forced(capsys):
    Path("run.toml").write_text("mine")
    assert main(["train", "--init"]) == 2
    assert "run.toml: the file exists already" in capsys.readouterr().err
    assert main(["train", "--init", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "run.toml"
    assert Path("run.toml").read_text() != "mine"


def test_answers_on_a_terminal(monkeypatch, capsys):
    on_a_terminal(monkeypatch)
    answers = ["./m", "'my rows.jsonl' b.jsonl", "chatml, llama3", "", "yes", "runs/mine"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(answers) + "\n"))
    assert main(["train", "--init", "--lora-r", "4"]) == 0
    config = read_config(Path("run.toml"))
    assert (config.model, config.output_dir) == ("./m", "runs/mine")
    assert config.data.train == ("my rows.jsonl", "b.jsonl")
    assert config.formats.train == ("chatml", "llama3") and config.formats.held_out == ()
    assert config.quantisation.load_in_4bit and config.adapter.lora_r == 4


def test_what_a_flag_says_is_not_asked(monkeypatch):
    on_a_terminal(monkeypatch)
    monkeypatch.setattr("sys.stdin", io.StringIO("common\nnone\nno\nruns/x\n"))
    assert main(["train", "--init", "--model", "m", "--train", "rows.jsonl"]) == 0
    assert read_config(Path("run.toml")).output_dir == "runs/x"


def test_answers_that_end_early_write_nothing(monkeypatch, capsys):
    on_a_terminal(monkeypatch)
    monkeypatch.setattr("sys.stdin", io.StringIO("m\n"))
    assert main(["train", "--init"]) == 2
    assert "the answers ended early" in capsys.readouterr().err and not Path("run.toml").exists()


@given(
    st.text(min_size=1).filter(str.strip),
    st.lists(st.text(min_size=1).filter(str.strip), max_size=2),
)
def test_any_text_is_read_back(model, rows):
    import tomllib

    given = parse_config({"model": model, "data": {"train": rows}})
    assert parse_config(tomllib.loads(commented_toml(given))) == given


@pytest.mark.local
def test_what_it_writes_starts_as_a_dry_run(tiny_model, capsys):
    row = {"messages": [{"role": "user", "content": "q?"}, {"role": "assistant", "content": "a"}]}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    flags = ["--model", str(tiny_model), "--train", "rows.jsonl", "--formats", "chatml"]
    assert main(["train", "--init", *flags, "--held-out", "llama3"]) == 0
    assert main(["train", "run.toml", "--dry-run", "--json"]) == 0
