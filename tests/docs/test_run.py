"""The pages' commands are run in order on a tiny model, or listed with a reason."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.models.digest import digest_folder
from harness.models.packaged import PackagedModel
from tests.docs.snippets import Command, blocks, harness_commands, shown_files
from tests.docs.workspace import SMALL_EVAL, SMALL_RUN, build

#: Commands that are only parsed (test_snippets.py), and why.
NOT_RUN = {
    r"--endpoint": "needs a server: tests/backends has one of its own, tox -e peers llama.cpp's",
    r"ship .*--to llamacpp": "needs llama.cpp's converter: tests/ship/test_llama_programs.py has one",
    r"--server http": "needs a server: tests/ship/test_servers.py has one of each kind",
    r"eval ollama/": "needs an Ollama: tests/backends/test_ollama.py",
    r"model\.gguf": "needs llama.cpp: tests/backends/test_llamacpp.py (tox -e llamacpp)",
    r"--engine ray": "starts a cluster: tox -e peers",
    r"--engine program": "the page's own file: tests/backends/test_by_name.py",
    r"--metrics": "a file that declares metrics: tests/metrics/test_registry.py",
    r"harness view": "serves until it is stopped: tests/view",
    r"mistralai/|12gb.toml$": "a model of the hub, on a GPU; the recipe's --dry-run is run",
    r"--(depths|turns)": "thousands of tokens in each of 18 formats: tests/evaluation/test_depth.py",
    r"--formats (all|grammar:100)": "a hundred formats: tests/evaluation/test_budget.py",
    r"branch runs/train --from before-turn": "two steps have no turning point: docs/branching.md",
    r"--load-in-4bit": "needs bitsandbytes: tests/training/test_quantised.py",
    r"--to parquet": "needs pyarrow: tests/cli/test_results.py (tox -e extras)",
    r"audit \./merged": "needs a merge of other weights: tests/audit",
    r"--report-to": "needs a tracker's package: tests/training/test_trackers.py",
}
#: These exit with 1 when they find something.
FINDINGS = ("audit", "compare", "pick", "data check", "drift", "recall", "formats", "preview")
COMMANDS_RUN = [
    command
    for command in harness_commands()
    if not any(re.search(pattern, command.text) for pattern in NOT_RUN)
]
PAGES_RUN = list(dict.fromkeys(command.block.page for command in COMMANDS_RUN))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_model) -> Path:
    """Filled once; each page gets a copy."""
    folder = tmp_path_factory.mktemp("docs") / "workspace"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        small(patch, folder, tiny_model)
        build(folder, tiny_model)
    return folder


def small(patch: pytest.MonkeyPatch, folder: Path, tiny_model: Path) -> None:
    """Work in ``folder``; packaged models are the tiny one, and trainings are small."""
    patch.chdir(folder)
    converted = (tiny_model, digest_folder(tiny_model))
    patch.setattr(PackagedModel, "convert", lambda model: converted)
    for key, value in SMALL_RUN.items():
        patch.setenv(f"HARNESS_TRAIN_{key}", value)


@pytest.mark.parametrize("page", PAGES_RUN)
def test_the_commands_of_a_page_run_one_after_the_other(
    page, workspace, tiny_model, tmp_path, monkeypatch, capsys
):
    shutil.copytree(workspace, tmp_path / "here")
    small(monkeypatch, tmp_path / "here", tiny_model)
    for block in blocks(page):
        if block.language == "toml" and "output_dir" in block.text:
            Path("run.toml").write_text(block.text)  # the page says: write run.toml
    for name, text in shown_files(page).items():
        Path(name).write_text(text, encoding="utf-8")
    for command in COMMANDS_RUN:
        if command.block.page == page:
            assert_it_runs(command, capsys)


def assert_it_runs(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 0, or with 1 where it may find something."""
    words = list(command.words[1:])
    if words[0] == "eval":
        words += [
            word
            for flag, value in SMALL_EVAL.items()
            if flag not in words and not (flag == "--cases-per-format" and "--full" in words)
            for word in (flag, value)
        ]
    code = main(words)
    printed = capsys.readouterr()
    allowed = (0, 1) if " ".join(words).startswith(FINDINGS) else (0,)
    output = printed.out[-1000:] + printed.err[-1000:]
    assert code in allowed, f"{command.block.place}: {command.text}\nexit {code}\n{output}"


def test_the_report_is_read_as_shown(workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    [shown] = [
        block for block in blocks("docs/reference/report-json.md") if block.language == "python"
    ]
    exec(compile(shown.text, shown.place, "exec"), {})
    assert len(capsys.readouterr().out.split()) == 4


def test_every_reason_has_its_command():
    for pattern, why in NOT_RUN.items():
        assert any(re.search(pattern, command.text) for command in harness_commands()), (
            f"{pattern}: {why}"
        )
