"""harness recipes, and that every shipped recipe is in the wheel's list and works where it is copied."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cli.recipes import about, recipes
from harness.training.config import read_config

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "docs" / "recipes").glob("*.toml"))


def test_all_are_listed_with_what_they_are_for(capsys):
    assert main(["recipes", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == NAMES and len(NAMES) >= 6
    assert all(20 < len(row["about"]) < 160 for row in rows), rows
    assert main(["recipes", "list"]) == 0
    assert "smollm2-cpu" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_recipe_finds_its_rows(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", name, "--out", "run.toml", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["files"]
    assert written[0] == "run.toml" and all(Path(file).is_file() for file in written)
    config = read_config(Path("run.toml"))
    assert all(Path(source.path).exists() for source in config.data.sources())
    assert main(["recipes", "copy", name, "--out", "run.toml"]) == 2
    assert main(["recipes", "copy", name, "--out", "second.toml"]) == 0  # the rows are there


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_trains_against_forged_turns(name):
    """The README and docs/training.md say so."""
    assert read_config(ROOT / "docs" / "recipes" / f"{name}.toml").data.forged_turns == 0.3


def test_rows_of_another_content_are_not_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = Path("trainset/premises.jsonl")
    mine.parent.mkdir()
    mine.write_text("mine")
    assert main(["recipes", "copy", "over-training"]) == 2
    assert "trainset/premises.jsonl: the file exists already" in capsys.readouterr().err
    assert mine.read_text() == "mine" and not Path("over-training.toml").exists()


def test_the_wheel_has_them_all():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = table["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    expected = {f"docs/recipes/{name}.toml": f"harness/_data/recipes/{name}.toml" for name in NAMES}
    assert {key: value for key, value in included.items() if "recipes" in key} == expected


def test_a_recipe_without_a_comment_says_nothing():
    assert about('model = "m"\n') == "" and about("# One. Two.\n# Three.\nx = 1\n") == "One"
    assert set(recipes()) == set(NAMES)
