"""A grid of ordinary runs on one base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.models import load
from harness.report.sweep_document import read_sweep, sweep_table
from harness.report.sweep_map import write_sweep_map
from harness.training.config import EvaluationConfig
from harness.training.loop import Trainer
from harness.training.runs.overrides import short_name, with_settings
from harness.training.start import train
from harness.training.sweep import run_sweep, sweep_points, sweep_rows

WEIGHTS = "adapter_model.safetensors"
GRID = {"learning_rate": ["1e-3", "1e-2"], "num_train_epochs": ["2", "4"]}


@pytest.fixture
def recipe(run_config):
    return replace(
        run_config,
        output_dir=run_config.output_dir + "s",
        evaluation=EvaluationConfig(references=3, formats_measured=1, recall_rows=0),
    )


def test_each_point_is_bit_for_bit_the_run_it_would_be_alone(recipe, tmp_path, monkeypatch):
    loads = []
    monkeypatch.setattr(
        "harness.models.load", lambda *args, **options: loads.append(args) or load(*args, **options)
    )
    points = sweep_points(recipe, GRID)
    rows = run_sweep(points, quiet=True)
    assert len(loads) == 1 and len(rows) == 4 and all(row["done"] for row in rows)
    last = points[-1].config
    alone = train(replace(last, output_dir=str(tmp_path / "alone")), quiet=True)
    assert (alone / WEIGHTS).read_bytes() == Path(last.output_dir, "adapter", WEIGHTS).read_bytes()


def test_an_interrupted_sweep_goes_on_where_it_was(recipe, monkeypatch):
    points = sweep_points(recipe, {"learning_rate": ["1e-3", "1e-2"]})
    original, taken = Trainer.step, []

    def stop_in_the_second(self, number, sum_lr):
        if len(taken) == 15:
            raise KeyboardInterrupt
        taken.append(number)
        return original(self, number, sum_lr)

    monkeypatch.setattr(Trainer, "step", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(points, quiet=True)
    assert [row["done"] for row in sweep_rows(points)] == [True, False]
    again = []
    monkeypatch.setattr(
        Trainer,
        "step",
        lambda self, number, sum_lr: again.append(number) or original(self, number, sum_lr),
    )
    assert all(row["done"] for row in run_sweep(points, quiet=True))
    assert again == list(range(2, 12))  # from the checkpoint after step 2 on


def test_the_map_the_table_and_the_page_show_every_point(recipe, tmp_path):
    rows = run_sweep(sweep_points(recipe, GRID), quiet=True)
    sweep = read_sweep(Path(recipe.output_dir))
    assert [run.settings for run in sweep.points] == [
        row["settings"] for row in rows
    ] and sweep.measure == "nll_seen"
    paths = write_sweep_map(sweep, tmp_path)
    assert [path.name for path in paths] == ["map.svg", "map.png", "sweep.html"] and paths[
        1
    ].read_bytes().startswith(b"\x89PNG")
    page = paths[2].read_text()
    assert (
        "num_train_epochs = 2" in page
        and "over-trained" in page
        and page.count("<tr>") == 3 + 3 + 5
    )  # a table for each panel, and one of the runs
    drawn = paths[0].read_text()
    assert write_sweep_map(sweep, tmp_path)[0].read_text() == drawn
    heads, table = sweep_table(sweep.points)
    assert heads[:2] == ["learning_rate", "num_train_epochs"] and [line[:2] for line in table] == [
        ["1e-3", "2"],
        ["1e-3", "4"],
        ["1e-2", "2"],
        ["1e-2", "4"],
    ]


def test_the_command_says_what_it_would_do(tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text(f'output_dir = "{tmp_path}/runs"\n')
    assert (
        main(
            [
                "sweep",
                str(file),
                "--grid",
                "learning_rate=1e-4,1e-3",
                "--grid",
                "lora_r=4,8",
                "--dry-run",
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)["points"]
    assert [point["settings"]["adapter.lora_r"] for point in told] == [
        "4",
        "8",
        "4",
        "8",
    ] and not any(point["done"] for point in told)
    assert not (tmp_path / "runs").exists()
    for wrong, why in (
        (["--grid", "learning_rat=1"], "did you mean"),
        (["--grid", "learning_rate="], "no values"),
        (["--grid", "model=a,b"], "share one base"),
        (["--grid", "learning_rate=1e-3,1e-3"], "given twice"),
        (["--grid", "learning_rate=1e-3,-1"], "greater than 0"),
        ([], "missing --grid"),
    ):
        assert main(["sweep", str(file), *wrong, "--dry-run"]) == 2
        assert why in capsys.readouterr().err


def test_a_grid_over_alpha_is_compensated_unless_told_otherwise(recipe):
    for compensate, expected in ((True, recipe.adapter.lora_alpha), (False, 0)):
        points = sweep_points(recipe, {"lora_alpha": ["8", "32"]}, compensate=compensate)
        assert [point.config.optimisation.compensate_alpha for point in points] == [expected] * 2


@pytest.mark.slow
def test_points_in_processes_of_their_own_are_the_same(recipe):
    points = sweep_points(recipe, {"learning_rate": ["1e-3", "1e-2"]})
    run_sweep(points, jobs=2, quiet=True)
    first = [Path(point.config.output_dir, "adapter", WEIGHTS).read_bytes() for point in points]
    here = [replace(point.config, output_dir=point.config.output_dir + "-here") for point in points]
    assert first == [(train(config, quiet=True) / WEIGHTS).read_bytes() for config in here]


def test_values_are_read_as_toml_reads_them(recipe):
    changed = with_settings(
        recipe,
        {
            "optimisation.learning_rate": "1e-7",
            "schedule.lr_scheduler_type": "linear",
            "formats.train": '["chatml"]',
        },
    )
    assert (
        changed.optimisation.learning_rate,
        changed.schedule.lr_scheduler_type,
        changed.formats.train,
    ) == (1e-7, "linear", ("chatml",))
    assert (
        short_name({"optimisation.learning_rate": 1e-7, "formats.train": ("a", "b/c")})
        == "learning_rate-1e-07_train-a-b-c"
    )
