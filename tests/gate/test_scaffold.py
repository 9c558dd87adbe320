from __future__ import annotations

import shlex

import pytest
import yaml

from harness.cli.main import main
from harness.errors import HarnessError
from harness.gate.run_gate import GateOptions
from harness.gate.scaffold import SHIPPED, WORKFLOW, workflow, write_gate
from harness.gate.thresholds import read_thresholds


def steps(text: str) -> dict[str, str]:
    """The workflow's named steps that run something."""
    return {
        step["name"]: step["run"]
        for step in yaml.safe_load(text)["jobs"]["gate"]["steps"]
        if "run" in step
    }


def test_everything_is_written_and_printed(tmp_path, capsys):
    assert (
        main(
            [
                "gate",
                "init",
                "--model",
                "models/my model",
                "--adapter",
                "adapter",
                "--root",
                str(tmp_path),
                "--limit",
                "20",
            ]
        )
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == sorted(SHIPPED)
    assert read_thresholds(tmp_path / "eval" / "thresholds.toml").margins
    command = shlex.split(steps((tmp_path / WORKFLOW).read_text())["Gate"])
    assert command[:6] == ["pytest", "eval/", "--model", "models/my model", "--adapter", "adapter"]
    assert "--baseline" in command and "eval/baselines/my model.json" in command
    out = capsys.readouterr().out
    assert "--update-baseline" in out and "pip install 'formatproof[gate]'" in out


def test_what_is_measured_is_passed_on_to_the_workflow(tmp_path, capsys):
    asked = [
        *("--formats", "chatml,mine", "--formats-dir", "formats", "--cases", "a.jsonl", "b.jsonl"),
        *("--metrics", "shouts.py", "--folder", "checks/gate/"),
    ]
    assert main(["gate", "init", "--model", "m", "--root", str(tmp_path), *asked]) == 0
    measured = (
        "pytest checks/gate/ --model m --formats chatml,mine --formats-dir formats "
        "--cases a.jsonl --cases b.jsonl --metrics shouts.py --baseline checks/gate/baselines/m.json"
    )
    gate = steps((tmp_path / WORKFLOW).read_text())["Gate"]
    assert gate == f"{measured} --report-dir build/gate --junitxml build/gate/junit.xml"
    assert f"  {measured} --update-baseline\n" in capsys.readouterr().out
    assert (tmp_path / "checks" / "gate" / "conftest.py").is_file()


@pytest.mark.parametrize("asked", [["--folder", ".."], ["--folder", "/eval"], ["--folder", ""]])
def test_the_gate_is_inside_the_repository(tmp_path, capsys, asked):
    root = tmp_path / "repository"
    assert main(["gate", "init", "--model", "m", "--root", str(root), *asked]) == 2
    assert f"invalid --folder {asked[1]!r}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_gate_without_a_model_is_refused(tmp_path, capsys):
    assert main(["gate", "init", "--model", "", "--root", str(tmp_path)]) == 2
    assert "--model needs a value" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(tmp_path):
    plan = GateOptions("m")
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "thresholds.toml").write_text("mine")
    with pytest.raises(HarnessError, match="exists already"):
        write_gate(tmp_path, plan)
    assert (
        not (tmp_path / WORKFLOW).exists()
        and (tmp_path / "eval" / "thresholds.toml").read_text() == "mine"
    )
    assert len(write_gate(tmp_path, plan, force=True)) == 4


def test_a_gguf_needs_its_extra():
    assert "formatproof[gate,gguf]" in steps(workflow(GateOptions("model.gguf")))["Install"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / ".github").write_text("a file")
    with pytest.raises(HarnessError, match="cannot write"):
        write_gate(tmp_path, GateOptions("m"))
