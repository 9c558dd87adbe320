"""Commands and Python functions read the same files: recipes of ours and of other trainers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import harness
from harness.cli.main import main
from harness.training.config import EvaluationConfig
from harness.training.config.recipe_text import recipe_toml
from tests.training.small import write_rows

AXOLOTL = {
    "base_model": "my-model",
    "datasets": [{"path": "rows.jsonl", "type": "chat_template"}],
    "learning_rate": "2e-4",
    "flash_attention": True,
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The same settings in a TOML file and in axolotl's, and what start.train is called with."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path, [("a?", "b")])
    Path("theirs.yml").write_text(yaml.safe_dump(AXOLOTL))
    Path("nomodel.yml").write_text(yaml.safe_dump({"micro_batch_size": 1}))
    trained = []

    def train(config, **_):
        trained.append(config)
        return tmp_path / "run" / "adapter"

    monkeypatch.setattr("harness.training.start.train", train)
    return trained


def test_python_trains_what_the_command_trains(files, capsys):
    """Another trainer's file, with the settings of the call over it, and what is not kept."""
    assert main(["train", "theirs.yml", "--seed", "3"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    result = harness.train("theirs.yml", seed=3)
    assert files[0] == files[1] and files[1].optimisation.learning_rate == 2e-4
    assert list(result.notes) == said and any("flash_attention" in line for line in said)
    assert capsys.readouterr().err == "", "quiet by default"
    Path("ours.toml").write_text(recipe_toml(files[0]))
    assert harness.train("ours.toml").notes == () and files[2] == files[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: harness.train("nomodel.yml"), r'nomodel.yml: names no model — model="MODEL"'),
        (lambda: harness.train("nomodel.yml", model="m"), r"names no data set"),
        (lambda: harness.train("theirs.yml", trainer="axl"), r"invalid --from 'axl'"),
        (lambda: harness.train({"model": "m"}, trainer="trl"), r"trainer='trl' needs a file"),
        (lambda: harness.sweep("theirs.yml", {}), r"the grid is empty"),
        (lambda: harness.sweep("theirs.yml", {"seed": 1}), r"seed = 1: expected a list of values"),
        (lambda: harness.sweep("theirs.yml", {"seed": "1,2"}), r"'1,2': expected a list of values"),
        (lambda: harness.sweep("theirs.yml", {"seed": [1]}, jobs=0), r"invalid jobs 0"),
        (lambda: harness.sweep("theirs.yml", {"nosuch": [1]}), r"unknown setting 'nosuch'"),
    ],
)
def test_a_mistake_is_a_harness_error(files, call, message):
    with pytest.raises(harness.HarnessError, match=message):
        call()
    assert files == []


def test_a_sweep_from_python_is_that_of_the_command(run_config, capsys):
    recipe = replace(
        run_config,
        output_dir=run_config.output_dir + "s",
        evaluation=EvaluationConfig(references=3, formats_measured=1, recall_rows=0),
    )
    found = harness.sweep(recipe, {"learning_rate": [1e-3, 1e-2]}, max_steps=2)
    assert repr(found) == f"SweepResult({recipe.output_dir}: 2 of 2 runs done)"
    assert [row["learning_rate"] for row in found.rows()] == ["0.001", "0.01"]
    assert (found.folder / "sweep.json").is_file() and "curve" not in found.rows()[0]
    file = Path(recipe.output_dir + ".toml")
    file.write_text(recipe_toml(recipe))
    command = ["sweep", str(file), "--grid", "learning_rate=0.001,0.01", "--dry-run", "--json"]
    capsys.readouterr()
    assert main(command) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [Path(point["run"]).name for point in points] == [
        Path(row["run"]).name for row in found.rows()
    ]
