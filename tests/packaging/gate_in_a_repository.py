"""README's first command and the gate, run in a scratch repository against the installed wheel.

A tiny model learns five answers in three formats: that adapter passes against its own baseline. One
trained in a single format fails, and the formats with failed checks are named.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("chatml", "alpaca-newline", "llama2-chat")
PAIRS = [
    ("fox?", "brown"),
    ("dog?", "lazy"),
    ("capital?", "Oslo"),
    ("over?", "jumps"),
    ("quick?", "the fox"),
]


def run(
    command: str | list[str], repository: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command as the workflow's shell runs it, away from the checkout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "-e", "-c", command] if isinstance(command, str) else command
    return subprocess.run(
        words,
        cwd=repository,
        env={**os.environ, "PATH": path, **environment},
        text=True,
        capture_output=True,
        check=False,
    )


def rows(file: Path, entries: list[dict]) -> None:
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def recipe(name: str, formats: tuple[str, ...], rate: float) -> str:
    return f"""
model = "model"
output_dir = "{name}"
dtype = "float32"
[adapter]
lora_r = 16
[data]
train = ["rows.jsonl"]
[formats]
train = {json.dumps(formats)}
mixing = "all"
[optimisation]
learning_rate = {rate}
num_train_epochs = 60
[evaluation]
references = 0
recall_rows = 0
"""


def theirs_run_and_ours_is_skipped(repository: Path) -> None:
    """Plain pytest in a repository with tests, a conftest and options of its own."""
    (repository / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--model', default='theirs')\n"
        "    parser.addoption('--limit', type=int, default=3)\n"
    )
    (repository / "tests").mkdir()
    (repository / "tests" / "test_theirs.py").write_text(
        "def test_theirs(request):\n"
        "    assert request.config.getoption('--model') == 'theirs'\n"
        "    assert request.config.getoption('--limit') == 3\n"
    )
    done = run(["pytest", "-rs"], repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout, done.stdout
    assert "the gate runs when it is asked for: pytest eval/" in done.stdout, done.stdout


def a_first_look_gives_verdicts(repository: Path) -> None:
    """``harness eval`` in an environment that holds the wheel and what it needs."""
    asked = ["--adapter", "adapter", "--formats", ",".join(FORMATS), "--cases", "cases.jsonl"]
    done = run(["harness", "eval", "./model", *asked], repository)
    assert done.returncode == 0, done.stdout + done.stderr
    report = repository / done.stdout.partition("report: ")[2].splitlines()[0]
    assert report.is_file() and report.name == "report.html", done.stdout
    found = json.loads(report.with_name("report.json").read_text())["runs"][-1]["verdicts"]
    assert {verdict["format"] for verdict in found} == set(FORMATS), found
    for verdict in found:
        lines = [line.split() for line in done.stdout.splitlines() if verdict["format"] in line]
        assert [verdict["word"].upper()] in [line[:1] for line in lines], done.stdout
    assert "next: harness view" in done.stdout, done.stdout


def main() -> None:
    import harness

    assert not Path(harness.__file__).is_relative_to(ROOT / "harness"), (
        f"the wheel is not what is imported, but {harness.__file__}"
    )
    with tempfile.TemporaryDirectory() as name:
        repository = Path(name)
        sys.path.insert(0, str(ROOT / "tests"))
        import tiny  # the tiny model of the tests, and nothing else of the checkout

        tiny.build_model(repository / "model")
        rows(
            repository / "rows.jsonl",
            [
                {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
                for q, a in PAIRS
            ],
        )
        cases = [
            {"id": f"{kind}-{at}-{turn}", "messages": [{"role": "user", "content": q}], **facts}
            for turn in range(8)
            for at, (q, a) in enumerate(PAIRS)
            for kind, facts in (
                ("answer", {"checks": [{"contains": a}]}),
                ("reference", {"reference": a}),
            )
        ]
        rows(repository / "cases.jsonl", cases)
        for adapter, formats, rate in (("good", FORMATS, 1e-2), ("bad", FORMATS[:1], 2e-2)):
            (repository / f"{adapter}.toml").write_text(recipe(adapter, formats, rate))
            done = run(["harness", "train", f"{adapter}.toml"], repository)
            assert done.returncode == 0, done.stderr
        shutil.copytree(repository / "good" / "adapter", repository / "adapter")
        a_first_look_gives_verdicts(repository)
        asked = [
            "--model",
            "model",
            "--adapter",
            "adapter",
            "--formats",
            ",".join(FORMATS),
            "--cases",
            "cases.jsonl",
        ]
        written = run(["harness", "gate", "init", *asked], repository)
        assert written.returncode == 0, written.stderr
        theirs_run_and_ours_is_skipped(repository)
        make_baseline = next(
            line.strip() for line in written.stdout.splitlines() if "--gate-update-baseline" in line
        )
        made = run(make_baseline, repository)
        assert made.returncode == 0, made.stdout + made.stderr
        [gate] = [
            step["run"]
            for step in yaml.safe_load(
                (repository / ".github/workflows/format-gate.yml").read_text()
            )["jobs"]["gate"]["steps"]
            if step.get("name") == "Gate"
        ]
        passed = run(gate, repository, GITHUB_ACTIONS="true")
        assert passed.returncode == 0, passed.stdout + passed.stderr
        shutil.rmtree(repository / "adapter")
        shutil.copytree(repository / "bad" / "adapter", repository / "adapter")
        failed = run(gate, repository, GITHUB_ACTIONS="true")
        assert failed.returncode == 1, failed.stdout + failed.stderr
        broke = next(
            line
            for line in failed.stdout.splitlines()
            if line.startswith("formats with failed checks:")
        )
        assert "alpaca-newline" in broke and "llama2-chat" in broke, failed.stdout
        comment = (repository / "build/gate/comment.md").read_text()
        assert "## Format gate: failed" in comment and "- alpaca-newline · " in comment, comment
        assert (
            "::error title=gate alpaca-newline" in failed.stdout
            and (repository / "build/gate/report.html").is_file()
        )
    print(f"the good adapter passed, the bad one failed: {broke}\n1 passed, 0 failed")


if __name__ == "__main__":
    main()
