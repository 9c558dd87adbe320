"""The pages show what commands print: those that need no model are run and compared.

A console block is compared line by line; a line ``…`` stands for any lines, and ``…`` in a line for
any text. Commands on the real model are compared in tests/slow/test_shown_outputs.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from tests.docs.snippets import ROOT, Command, is_printed, shown_files, shown_outputs

#: Commands that read texts and formats only.
LIGHT = ("drift", "recall", "phrases", "data check", "formats")
COMPARED = [c for c in shown_outputs(LIGHT) if "SmolLM2" not in c.text]


@pytest.mark.parametrize("command", COMPARED, ids=lambda c: f"{c.block.place} {c.words[1]}")
def test_a_command_prints_what_its_page_shows(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, text in shown_files(command.block.page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    main(list(command.words[1:]))
    printed = capsys.readouterr()
    assert is_printed(command.output, printed.out + printed.err), printed.out + printed.err


def test_the_questions_are_answered_with_outputs_that_are_compared() -> None:
    assert {c.words[1] for c in COMPARED if c.block.page == "docs/questions.md"} >= {
        "drift",
        "recall",
        "data",
        "formats",
    }


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\nc\n", False),
        ("a\n", "a\nb\n", False),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("…\nd\n", "d\n", True),
        ("… is b\n", "a is b\n", True),
        ("… is b\n", "a is c\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_lines_are_compared(shown: str, printed: str, same: bool) -> None:
    assert is_printed(shown, printed) is same
