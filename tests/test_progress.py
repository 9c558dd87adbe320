"""Progress: bars with a rate on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil

import pytest

from harness import progress as module
from harness.progress import expect, note, progress, recording


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


def test_time_left_is_that_of_the_last_minute(clock):
    """A slow first batch is forgotten; what an earlier process did was never seen."""
    with progress("x", 1000, quiet=True, done=500) as bar:
        assert bar.left_s is None and bar.rate == 0.0
        for seconds in [10.0] * 10 + [1.0] * 59:
            clock.now += seconds
            bar.advance()
        assert bar.left_s == pytest.approx(431 * 69 / 60), "59 fast steps and a slow one"
        clock.now += 1.0
        bar.advance()
        assert bar.left_s == pytest.approx(430)
        assert bar.rate == pytest.approx(70 / 160)
        bar.advance(430)
        assert bar.left_s == 0.0


def test_the_file_is_written_once_a_second_and_when_a_phase_begins_or_ends(
    tmp_path, monkeypatch, clock
):
    written = []
    monkeypatch.setattr(module, "write_text", lambda path, text: written.append(clock.now))
    with recording(tmp_path), progress("x", 100, quiet=True) as bar:
        for _ in range(100):
            clock.now += 0.25
            bar.advance()
    waits = [after - before for before, after in itertools.pairwise(written)]
    assert waits == [0.25, *[1.0] * 24, 0.75, 0.0]
    written.clear()
    with recording(tmp_path), progress("nothing to do", 0, quiet=True):
        expect("nothing here either", 0)
    assert not written, "an earlier run's file is left as it is"
    expect("outside", 3)
    note(words={})
    assert not written, "nothing is recorded outside"


def test_a_folder_that_is_gone_is_not_made_again(tmp_path):
    with recording(tmp_path / "gone"), progress("x", 2, quiet=True):
        shutil.rmtree(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_block_inside_another_one_of_the_same_folder_does_not_end_it(tmp_path):
    def finished(folder):
        return json.loads((folder / "progress.json").read_text())["finished"]

    inner = tmp_path / "train"
    with recording(tmp_path):
        for name in ("before", "after"):
            with recording(tmp_path), progress(name, 1, quiet=True) as bar:
                bar.advance()
            assert not finished(tmp_path)
        with recording(inner), progress("train", 1, quiet=True) as bar:
            bar.advance()
        assert finished(inner) and not finished(tmp_path)
    assert finished(tmp_path)
    record = json.loads((tmp_path / "progress.json").read_text())
    assert [phase["name"] for phase in record["phases"]] == ["before", "after"]
