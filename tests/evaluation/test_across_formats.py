"""What the choice of a format does to a run, and what changed in each format between two runs."""

from __future__ import annotations

import pytest

from harness.evaluation.analysis.across_formats import across_rows, changes
from harness.evaluation.analysis.build_report import build_report
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from harness.report.page import render_html
from tests.evaluation.conftest import ask
from tests.scripted_backend import ScriptedBackend

GROUPS = {"chatml": "native", "alpaca-newline": "seen", "llama3": "held-out"}
CASES = [ask(f"c{n}", f"Question {n}?", choices=["yes", "no"], answer=0) for n in range(12)]
CASES += [ask(f"a{n}", f"Say word {n}.", checks=[{"contains": "word"}]) for n in range(12)]


def run(tmp_path, formats, wrong, label="evaluate"):
    """Right everywhere but in the ``wrong`` (format, number of the case)."""

    def logprob(rendered):
        number = int(rendered.text.split("Question ")[1].split("?")[0])
        right = (rendered.format, number) not in wrong
        return -1.0 if ("yes" in rendered.text) == right else -5.0

    with Store(tmp_path / "r.sqlite") as store:
        backend = ScriptedBackend(lambda prompt: "a word</s>", logprob, label)
        return evaluate(
            backend,
            CASES,
            formats,
            GROUPS,
            "chatml",
            store,
            EvalSettings(),
            label=label,
            quiet=True,
        )


def test_the_rows_of_a_run(tmp_path, formats):
    found = run(tmp_path, formats, {("llama3", n) for n in range(6)})
    rows = {row.metric: row for row in across_rows(found)}
    choice, task = rows["choice"], rows["on_task"]
    assert (choice.avg, choice.max, choice.min) == pytest.approx((10 / 12, 1.0, 0.5))
    assert (
        (choice.sat, choice.cps) == pytest.approx((10 / 12, 10 / 12))
        and choice.n == 12
        and choice.formats == 3
    )
    assert choice.low < choice.avg < choice.high
    assert choice.pss == pytest.approx(6 / 12 * 2 / 3) and choice.consistency == pytest.approx(
        1 - choice.pss
    )
    assert choice.top == 0.0 and task.top == 1.0, "llama3 is the one held-out format"
    assert choice.p < 0.01 and choice.worst[0] == "llama3" and choice.best[1] == 1.0
    assert 0 < choice.sensitivity < 1 and task.consistency is None
    assert (task.avg, task.spread, task.pss, task.p) == (1.0, 0.0, 0.0, 1.0)


def test_what_changed_is_tested_format_by_format(tmp_path, formats):
    before = run(tmp_path, formats, {("llama3", n) for n in range(10)}, "before")
    after = run(tmp_path, formats, {("chatml", 0)}, "after")
    found = {(change.format, change.metric): change for change in changes(before, after)}
    gained, lost = found["llama3", "choice"], found["chatml", "choice"]
    assert (gained.before, gained.after, gained.n) == pytest.approx(
        (2 / 12, 1.0, 12)
    ) and gained.low > 0.35
    assert gained.p == pytest.approx(3 * 2 / 2**10) and lost.p == 1.0
    assert found["alpaca-newline", "on_task"].p == 1.0
    page = render_html(build_report([before, after], model="toy"))
    assert 'id="changes"' in page and 'id="across"' in page
