from __future__ import annotations

import shlex
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.errors import HarnessError
from harness.gate.pull_request import POST_COMMENT
from harness.gate.run_gate import GateOptions
from harness.gate.scaffold import (
    SHIPPED,
    WORKFLOW,
    gate_table,
    missing_on_a_runner,
    packages,
    workflow,
    write_gate,
)
from harness.gate.thresholds import GateTable, read_gate_table, read_thresholds


def steps(text: str) -> dict[str, str]:
    """The workflow's named steps that run something."""
    return {
        step["name"]: step["run"]
        for step in yaml.safe_load(text)["jobs"]["gate"]["steps"]
        if "run" in step
    }


def test_everything_is_written_and_printed(tmp_path, capsys):
    asked = ["--model", "models/my model", "--adapter", "adapter", "--limit", "20"]
    assert main(["gate", "init", *asked, "--root", str(tmp_path)]) == 0
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == sorted(SHIPPED)
    thresholds = tmp_path / "eval" / "thresholds.toml"
    assert read_thresholds(thresholds).tolerances
    assert read_gate_table(thresholds) == GateTable(
        model="models/my model",
        adapter="adapter",
        limit=20,
        baseline="eval/baselines/my model.json",
    )
    run = steps((tmp_path / WORKFLOW).read_text())["Gate"]
    assert run == "pytest eval/ --gate-report-dir build/gate --junitxml build/gate/junit.xml"
    out = capsys.readouterr().out
    assert "  pytest eval/ --gate-update-baseline\n" in out
    assert "pip install 'formatproof[gate]'" in out


def test_what_is_measured_is_stored(tmp_path):
    asked = [
        *("--formats", "chatml,mine", "--formats-dir", "formats", "--cases", "a.jsonl", "b.jsonl"),
        *("--metrics", "shouts.py", "--folder", "checks/gate/", "--native", "mine", "--strict"),
        *("--endpoint", "http://localhost:8080/v1"),
    ]
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "mine.jinja").write_text('{#---\nfamily = "mine"\n---#}\nx')
    assert main(["gate", "init", "--model", "m", "--root", str(tmp_path), *asked]) == 0
    assert read_gate_table(tmp_path / "checks" / "gate" / "thresholds.toml") == GateTable(
        model="m",
        native="mine",
        endpoint="http://localhost:8080/v1",
        formats=["chatml", "mine"],
        formats_dir=["formats"],
        cases=["a.jsonl", "b.jsonl"],
        metrics=["shouts.py"],
        baseline="checks/gate/baselines/m.json",
        strict=True,
    )
    assert steps((tmp_path / WORKFLOW).read_text())["Gate"].startswith("pytest checks/gate/ ")
    assert (tmp_path / "checks" / "gate" / "conftest.py").is_file()


def test_an_unknown_format_is_found_before_anything_is_written(tmp_path, capsys):
    asked = ["--root", str(tmp_path), "--formats", "chatml,nosuch"]
    assert main(["gate", "init", "--model", "m", *asked]) == 2
    assert "unknown format 'nosuch'" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@given(st.text(min_size=1).filter(str.strip), st.lists(st.text(min_size=1), max_size=3))
def test_any_text_survives_the_table(text, formats):
    stored = tomllib.loads(gate_table(GateOptions(text, formats=tuple(formats))))["gate"]
    assert (stored["model"], stored.get("formats", [])) == (text, formats)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (GateOptions("./m"), "./m is a path: commit it, or add a step that fetches it"),
        (GateOptions("models/m.gguf"), "models/m.gguf is a path"),
        (GateOptions("org/name"), ""),
        (GateOptions("org/name", "runs/mine"), "runs/mine is a path: commit it"),
        (GateOptions("m", endpoint="http://localhost:1/v1"), "a step that starts the server"),
        (GateOptions("m", endpoint="https://models.example.org/v1"), ""),
        (GateOptions("ollama/smollm2"), "needs Ollama: add a step that starts it"),
        (GateOptions("org/name", cases=("cases.jsonl",)), ""),
        (GateOptions("org/name", formats_dirs=("../mine",)), "../mine is outside the repository"),
        (GateOptions("org/name", cases=("/home/cases.jsonl",)), "/home/cases.jsonl is outside"),
    ],
)
def test_what_a_runner_does_not_have_is_named(options, missing):
    sentences = "; ".join(missing_on_a_runner(options))
    assert (missing in sentences) if missing else not sentences
    assert all(
        f"\n# {sentence}.\n" in workflow(options) for sentence in sentences.split("; ") if sentence
    )
    yaml.safe_load(workflow(options))


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (GateOptions("m"), ["formatproof[gate]"]),
        (GateOptions("model.gguf"), ["formatproof[gate,gguf]"]),
        (GateOptions("m", endpoint="https://example.org/v1"), ["formatproof", "pytest"]),
        (GateOptions("ollama/m"), ["formatproof", "pytest"]),
    ],
)
def test_a_server_needs_no_torch_and_a_gguf_its_extra(options, needed):
    assert packages(options) == needed
    [line] = [line for line in steps(workflow(options))["Install"].splitlines() if "uv pip" in line]
    assert shlex.split(line)[-len(needed) :] == needed


def test_a_server_is_asked_with_the_repositorys_secret():
    def gate_step(options):
        found = yaml.safe_load(workflow(options))["jobs"]["gate"]["steps"]
        return next(step for step in found if step["name" if "name" in step else "uses"] == "Gate")

    server = gate_step(GateOptions("m", endpoint="https://example.org/v1"))
    assert server["env"] == {"OPENAI_API_KEY": "${{ secrets.OPENAI_API_KEY }}"}
    assert "env" not in gate_step(GateOptions("m"))


def test_the_workflow_comments_where_it_may():
    """A fork's token may not write; the comment's text is in the job's summary too."""
    table = yaml.safe_load(workflow(GateOptions("m")))
    assert table["permissions"] == {"contents": "read", "pull-requests": "write"}
    comment = table["jobs"]["gate"]["steps"][-1]
    assert "head.repo.full_name == github.repository" in comment["if"]
    assert comment["run"] == POST_COMMENT
    assert comment["env"]["COMMENT"] == "build/gate/comment.md"


def test_the_cpu_build_of_torch_is_installed():
    assert "--torch-backend cpu" in steps(workflow(GateOptions("m")))["Install"]


@pytest.mark.parametrize("asked", [["--folder", ".."], ["--folder", "/eval"]])
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


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / ".github").write_text("a file")
    with pytest.raises(HarnessError, match="cannot write"):
        write_gate(tmp_path, GateOptions("m"))
