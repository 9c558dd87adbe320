"""What commands print for the real model is what the pages show (tests/docs/test_outputs.py)."""

from __future__ import annotations

import pytest

from harness.cli.main import main
from tests.docs.snippets import ROOT, Command, is_printed, shown_files, shown_outputs

pytestmark = pytest.mark.slow

COMPARED = [
    command
    for command in shown_outputs(("preview", "formats", "train docs"))
    if "SmolLM2" in command.text or "train.py" in command.text
]


@pytest.mark.parametrize("command", COMPARED, ids=lambda c: f"{c.block.place} {c.words[1]}")
def test_a_command_prints_what_its_page_shows(command: Command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, text in shown_files(command.block.page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    main(list(command.words[1:]))
    printed = capsys.readouterr().out
    assert is_printed(command.output, printed), printed
