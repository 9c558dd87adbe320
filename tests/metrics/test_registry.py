"""A metric is one file: declared there, it is scored, shown, gated and searched without another
edit.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.conversation import Message
from harness.errors import HarnessError
from harness.evaluation.results import Results
from harness.evaluation.scorer import Scorer
from harness.evaluation.search.budget import searchable
from harness.metrics import registry
from harness.metrics.registry import METRICS, AnswerItem, Metric, Registry, scorer
from harness.records import Case, Check, Format

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-metric.md"


@pytest.fixture
def own_metrics(monkeypatch):
    """Forget what a test declares."""
    list(METRICS)
    for name in ("_scorers", "_metrics", "_files"):
        monkeypatch.setattr(METRICS, name, type(getattr(METRICS, name))(getattr(METRICS, name)))


def from_the_page(folder: Path) -> Path:
    """The file that docs/add-a-metric.md shows."""
    file = folder / "shouts.py"
    file.write_text(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])
    return file


def item(text: str) -> AnswerItem:
    case = Case("c", (Message("user", "Hello"),), checks=(Check("contains", "x"),))
    chat_format = Format("f", "f", "", (), "")
    return AnswerItem(case, chat_format, text, "stop", (), (), (), None)


def test_the_file_of_the_page_is_in_terminal_json_report_and_search(
    own_metrics, tmp_path, tiny_model, capsys
):
    file = str(from_the_page(tmp_path))
    common = [str(tiny_model), "--formats", "chatml,alpaca-newline", "--metrics", file]
    out = tmp_path / "run"
    assert main(["eval", *common, "--limit", "4", "--out", str(out), "--table"]) == 0
    assert "shouts" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    cells = [cell for cell in report["runs"][0]["cells"] if cell["metric"] == "shouts"]
    assert len(cells) == len(report["formats"]) and all(cell["n"] for cell in cells)
    assert "more than half of the letters are capitals" in (out / "report.html").read_text()
    assert "| shouts |" in (out / "report.md").read_text()
    assert main(["eval", *common, "--limit", "4", "--out", str(out), "--json"]) == 0
    assert '"metric": "shouts"' in capsys.readouterr().out
    search = ["--budget", "50%", "--find", "worst", "--find-by", "shouts"]
    assert main(["eval", *common, "--limit", "8", "--out", str(tmp_path / "s"), *search]) == 0
    assert "worst format by shouts" in capsys.readouterr().out


def test_a_report_is_drawn_again_without_the_file(own_metrics, tmp_path, tiny_model, monkeypatch):
    """report.json holds what is known of each metric: direction and sentence survive."""
    file, out = str(from_the_page(tmp_path)), tmp_path / "run"
    command = ["eval", str(tiny_model), "--formats", "chatml", "--limit", "2", "--metrics", file]
    assert main([*command, "--out", str(out)]) == 0
    monkeypatch.delitem(METRICS._metrics, "shouts")
    assert "shouts" not in METRICS
    assert main(["report", str(out / "report.json")]) == 0
    assert "more than half of the letters are capitals" in (out / "report.html").read_text()
    assert METRICS["shouts"].lower_is_better


def test_the_page_metric_scores_what_it_says(own_metrics, tmp_path):
    METRICS.load_file(from_the_page(tmp_path))
    [found] = [s for s in METRICS.scorers("answer") if s.metrics[0].name == "shouts"]
    assert found(item("HELLO there")) == {"shouts": (0.0, "")}
    assert found(item("HELLO THERE you")) == {"shouts": (1.0, "")}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "declares no metric"),
        ("1/0", "cannot load metrics: ZeroDivisionError"),
        ("def f(:", "cannot load metrics: SyntaxError"),
        ('@scorer(Metric("choice", "answer", "x", "lower"))\ndef f(item): pass', "already"),
        ('Metric("Big Name", "answer", "x", "lower")', "invalid metric name"),
        ('Metric("fine", "answers", "x", "lower")', "kind is one of"),
        ('Metric("fine", "answer", "x", "less")', "better is"),
    ],
)
def test_a_bad_file_is_one_line(own_metrics, tmp_path, code, message):
    file = tmp_path / "mine.py"
    file.write_text(f"from harness.metrics.registry import Metric, scorer\n{code}\n")
    with pytest.raises(HarnessError, match=message) as error:
        METRICS.load_file(file)
    assert str(file) in str(error.value) or "mine.py" in str(error.value)


def test_a_file_that_is_not_there(own_metrics, tmp_path):
    with pytest.raises(HarnessError, match="not a Python file"):
        METRICS.load_file(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1/0", "failed on case c: ZeroDivisionError"),
        ("float('nan')", "not a finite number"),
        ("0.5", "neither 0 nor 1"),
    ],
)
def test_what_a_user_function_does_wrong_is_one_line(own_metrics, tmp_path, value, message):
    file = tmp_path / "mine.py"
    file.write_text(
        "from harness.metrics.registry import Metric, scorer\n"
        "@scorer(Metric('mine', 'answer', 'x', 'lower', binary=True))\n"
        f"def mine(item): return {value}\n"
    )
    METRICS.load_file(file)
    [found] = [s for s in METRICS.scorers("answer") if s.metrics[0].name == "mine"]
    with pytest.raises(HarnessError, match=message):
        found(item("x"))


def test_a_file_is_loaded_once(own_metrics, tmp_path):
    file = from_the_page(tmp_path)
    METRICS.load_file(file)
    METRICS.load_file(file)
    assert list(METRICS).count("shouts") == 1


def test_a_metric_known_from_a_report_may_still_be_declared(own_metrics, tmp_path):
    """Until it is, nothing computes it, so it is neither scored nor searched by."""
    METRICS.describe(Metric("shouts", "answer", "loud", "lower", binary=True))
    assert METRICS["shouts"].about == "loud" and "shouts" not in searchable("answer")
    case = Case("c", (Message("user", "Hello"),), checks=(Check("contains", "x"),))
    chat_format = Format("f", "f", "", (), "")
    bare = Scorer([chat_format], None, [chat_format])
    assert "shouts" not in bare.values(case, chat_format, Results({}, {}))
    METRICS.load_file(from_the_page(tmp_path))
    assert METRICS["shouts"].about != "loud" and "shouts" in searchable("answer")
    assert "shouts" in bare.values(case, chat_format, Results({}, {}))


def test_an_entry_point_declares_metrics(monkeypatch):
    """An installed package's metrics are there at the first look."""

    class Point:
        value = "package.module"

        @staticmethod
        def load():
            fresh.add(lambda item: 1.0, (Metric("theirs", "answer", "x", "higher"),))

    fresh = Registry()
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [Point] * (group == registry.ENTRY_POINTS)
    )
    assert "theirs" in fresh


def test_every_shipped_metric_has_a_tolerance_or_tests_one_that_has():
    tests = {metric.tested_by for metric in METRICS.values()}
    assert {name for name in tests if name} <= set(METRICS)
    for metric in METRICS.values():
        assert metric.tolerance or metric.name in tests, metric.name
        assert metric.about and metric.rank < 1000, metric.name
    ranks = [metric.rank for metric in METRICS.values()]
    assert len(set(ranks)) == len(ranks)


def test_a_scorer_gives_metrics_of_one_kind():
    with pytest.raises(HarnessError, match="one kind"):
        scorer(Metric("a", "answer", "", "lower"), Metric("b", "choice", "", "lower"))(len)
