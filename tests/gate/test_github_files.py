"""action.yml and .pre-commit-hooks.yaml: what is in them is what their readers accept, and runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.cli.eval_options import EvalOptions
from harness.cli.main import COMMANDS, main
from harness.gate.pull_request import COMMENTS, POST_COMMENT

ROOT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
STEPS = {step.get("name", step.get("uses")): step for step in ACTION["runs"]["steps"]}


def test_the_action_has_what_github_requires():
    assert set(ACTION) <= {"name", "author", "description", "branding", "inputs", "outputs", "runs"}
    assert ACTION["runs"]["using"] == "composite" and len(ACTION["description"]) <= 125
    wanted = {"model", "adapter", "formats", "limit", "fail-on"}
    assert wanted <= set(ACTION["inputs"]) and set(ACTION["outputs"]) == {"verdict", "report"}
    for name, entry in ACTION["inputs"].items():
        assert set(entry) <= {"description", "required", "default"}, name
        assert entry.get("required") or isinstance(entry["default"], str), name
    for step in ACTION["runs"]["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert "shell" in step or "uses" in step  # a composite action has no default shell


def test_inputs_reach_the_shell_as_variables_only():
    """An expression inside a script would run what an input holds."""
    used = set()
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        used |= set(re.findall(r"inputs\.([\w-]+)", json.dumps(step)))
    assert used == set(ACTION["inputs"])


def test_the_action_comments_as_the_gate_does():
    comment = STEPS["Comment"]
    assert comment["run"] == POST_COMMENT and comment["env"]["COMMENTS"] == COMMENTS


def test_its_words_are_flags_of_eval():
    flags = set(re.findall(r"--([a-z-]+)", STEPS["Evaluate"]["run"])) - {"-"}
    known = {name.replace("_", "-") for name in EvalOptions.__dataclass_fields__}
    assert {"out", "adapter", "endpoint", "formats", "limit", "fail-on", "cases"} <= flags <= known
    assert "eval" in COMMANDS


class Job:
    """The action's step of evaluation, as a runner calls it, with ``harness`` as the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = folder / "bin" / "harness"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
        command.chmod(0o755)

    def run(self, **inputs: str) -> tuple[int, dict[str, str], str]:
        """Exit code, outputs and the job's summary."""
        given = {name: entry.get("default", "") for name, entry in ACTION["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        step = STEPS["Evaluate"]
        variables = {
            name: given[re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", value)[1]]
            for name, value in step["env"].items()
        }
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder,
            env={
                **os.environ,
                **variables,
                **{name: str(file) for name, file in files.items()},
                "PATH": path,
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        self.log = done.stdout + done.stderr
        outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().split())
        return done.returncode, outputs, files["GITHUB_STEP_SUMMARY"].read_text()


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def test_the_action_measures_and_says_the_worst_verdict(job, tiny_model):
    rows = [
        {
            "id": f"answer-{at}",
            "messages": [{"role": "user", "content": "fox?"}],
            "checks": [{"contains": "dog"}],
        }
        for at in range(12)
    ]
    (job.folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"formats": "chatml,alpaca-newline", "cases": "cases.jsonl", "limit": "12"}
    code, outputs, summary = job.run(model=str(tiny_model), fail_on="never", **asked)
    assert code == 0, job.log
    report = job.folder / outputs["report"]
    words = {
        v["word"]
        for v in json.loads(report.with_suffix(".json").read_text())["runs"][-1]["verdicts"]
    }
    assert report.suffix == ".html" and outputs["verdict"] in words
    assert outputs["verdict"] == next(
        w for w in ("broken", "degraded", "unclear", "untestable", "works") if w in words
    )
    assert summary.startswith(
        f"<!-- formatproof eval {tiny_model}".replace("--", "- -").replace("<!- -", "<!--", 1)
    )
    assert "| chatml |" in summary and "report: build/formatproof/report.html" in job.log
    assert (job.folder / "build/formatproof/comment.md").read_text() == summary
    assert words & {"broken"}, (
        "the tiny model answers nothing right, or the next test proves nothing"
    )
    code, outputs, summary = job.run(model=str(tiny_model), **asked)
    assert code == 1 and outputs["verdict"] == "broken" and "| chatml |" in summary


@pytest.mark.local
def test_a_model_that_is_not_there_is_said_in_the_comment(job):
    code, outputs, summary = job.run(model="nowhere")
    assert code == 2 and outputs == {}
    assert "# nowhere was not measured" in summary and "error: no model at 'nowhere'" in summary


def test_the_hooks_have_what_pre_commit_requires():
    for hook in HOOKS:
        assert {"id", "name", "entry", "language", "files"} <= set(hook)
        assert set(hook) <= {
            "id",
            "name",
            "description",
            "entry",
            "language",
            "files",
            "require_serial",
        }
        assert re.compile(hook["files"]) and hook["language"] == "python"
    assert len({hook["id"] for hook in HOOKS}) == len(HOOKS) == 2


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_passes_a_good_file_and_fails_a_bad_one(hook, tmp_path, capsys):
    row = {
        "messages": [{"role": "user", "content": "q?"}, {"role": "assistant", "content": "Four."}]
    }
    good = {
        "rows.jsonl": json.dumps(row),
        "mine.jinja": (ROOT / "formats/chatml.jinja").read_text(),
    }
    bad = {
        "rows.jsonl": json.dumps({"messages": row["messages"][:1]}),
        "mine.jinja": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    }
    [name] = [name for name in good if re.search(hook["files"], name)]
    command, *words = shlex.split(hook["entry"])
    assert command == "harness"
    for code, text in ((0, good[name]), (1, bad[name])):
        (tmp_path / name).write_text(text + "\n")
        assert main([*words, str(tmp_path / name)]) == code, capsys.readouterr()
