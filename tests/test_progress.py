"""Progress: bars with a rate on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import io
import re

import pytest

from harness import progress as module
from harness.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    moved = Clock()
    monkeypatch.setattr(module, "time", moved)
    return moved


def test_off_a_terminal_a_line_now_and_then(capsys, clock):
    with progress("evaluate: score", 1000, unit="cells") as bar:
        for _ in range(1000):
            clock.now += 0.05
            bar.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3, "every twenty seconds and at the end, not one a cell"
    assert lines[0] == "evaluate: score: 401/1000, 20 cells/s, 30 s left"
    assert lines[-1] == "evaluate: score: 1000/1000, 20 cells/s, in 50 s"


def test_slow_work_keeps_its_digits_and_work_without_unit_has_no_rate(capsys, clock):
    with progress("train", 2) as bar:
        clock.now += 30
        bar.advance(1, "loss 1.2")
    with progress("slow", 3, unit="cells") as bar:
        clock.now += 30
        bar.advance(1)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "train: 1/2, 30 s left  loss 1.2"
    assert second == "slow: 1/3, 0.033 cells/s, 60 s left"


def test_nothing_is_shown_when_quiet_or_when_there_is_nothing_to_do(capsys, clock):
    for total, quiet in ((5, True), (0, False)):
        with progress("x", total, quiet=quiet) as bar:
            clock.now += 100
            bar.advance(total)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_with_rate_and_time_left(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress("evaluate: answer", 8, unit="cells") as bar:
        for _ in range(8):
            bar.advance(1)
    shown = (
        re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).replace("\r", "\n").splitlines()
    )
    assert re.search(r"evaluate: answer .*8/8 .*cells/s .*0:00:00", shown[-1])
