"""harness compare on evaluations written as files."""

from __future__ import annotations

import json
import re

import pytest

from harness.cli.main import main
from harness.gate.baseline import to_baseline
from harness.gate.baseline_file import SCORES_FILE, write_baseline
from tests.gate.conftest import build_evaluation

GOOD = {
    ("chatml", "stopped"): [1.0] * 60,
    ("a", "stopped"): [1.0] * 60,
    ("b", "stopped"): [1.0] * 60,
    ("a", "nll"): [1.0 + at / 60 for at in range(60)],
}


@pytest.fixture
def written(tmp_path):
    def write(name, changes=(), **keys):
        (tmp_path / name).mkdir()
        write_baseline(
            to_baseline(build_evaluation({**GOOD, **dict(changes)}, native="chatml", **keys)),
            tmp_path / name / SCORES_FILE,
        )
        return str(tmp_path / name)

    return write


def test_equal_evaluations(written, capsys):
    assert main(["compare", written("one"), written("two")]) == 0
    out = capsys.readouterr().out
    assert (
        "held-out formats" in out
        and "1 passed" in out
        and "4 inconclusive" in out
        and "failed" not in out
    )


def test_a_loss_is_printed_with_its_interval_and_exits_1(written, capsys):
    worse = {
        ("a", "stopped"): [0.0] * 30 + [1.0] * 30,
        ("a", "nll"): [0.4 + at / 60 for at in range(60)],
    }
    assert main(["compare", written("one"), written("two", worse), "--json"]) == 1
    counts = json.loads(capsys.readouterr().out)
    rows = counts["checks"]
    found = {(row["format"], row["metric"]): row for row in rows}
    lost = found["a", "stopped"]
    assert (lost["outcome"], lost["delta"], lost["n"]) == ("failed", -0.5, 60)
    assert lost["interval"][0] < -0.5 < lost["interval"][1] < 0
    assert found["a", "nll"]["outcome"] == "improved" and found["a", "nll"]["interval"][
        0
    ] == pytest.approx(-0.6)
    assert list(counts["counts"]) == ["failed", "improved", "inconclusive"]
    assert counts["counts"]["failed"] == 2  # the format, and the mean over its group
    assert main(["compare", str(written("three")), str(written("four", worse))]) == 1
    assert "−.50" in capsys.readouterr().out


def test_metrics_can_be_chosen(written, capsys):
    one, two = written("one"), written("two", {("a", "stopped"): [0.0] * 60})
    assert main(["compare", one, two, "--metric", "nll"]) == 0
    assert main(["compare", one, two, "--measures", "stoped"]) == 2
    assert "did you mean stopped" in capsys.readouterr().err


def test_evaluations_that_cannot_be_compared_are_refused_or_stale(written, tmp_path, capsys):
    assert main(["compare", written("one"), str(tmp_path)]) == 2
    assert "harness eval MODEL --out" in capsys.readouterr().err
    for pair in (["gone", "one"], ["one", "gone"]):
        assert main(["compare", *(str(tmp_path / name) for name in pair)]) == 2
        assert "gone: no such file or folder — give the --out" in capsys.readouterr().err
    assert main(["compare", written("two"), written("three", prefix="other-")]) == 1
    assert "no case in common" in capsys.readouterr().out
    assert main(["compare", written("four"), written("five", digests={"a": "changed"})]) == 1
    assert "stale: the template of a changed" in capsys.readouterr().out


def test_a_page_is_written_with_its_json_beside_it(written, tmp_path, capsys):
    one, two = written("one"), written("two", {("a", "stopped"): [0.0] * 30 + [1.0] * 30})
    page = tmp_path / "pages" / "difference.html"
    assert main(["compare", one, two, "--html", str(page)]) == 1
    assert str(page) in capsys.readouterr().out
    text = page.read_text()
    assert (
        "one → two" in text
        and "failed" in text
        and "No samples: there is no report.json beside one and two." in text
    )
    document = json.loads(page.with_suffix(".json").read_text())
    assert document["schema"] == "harness-comparison/1" and document["before"]["label"] == "one"
    assert (
        main(["compare", one, one, "--html", str(page)]) == 0
    )  # a run against itself has no name of its own
    assert "before → after" in page.read_text()
    assert main(["compare", one, two, "--html", str(tmp_path / "page.json")]) == 2
    assert "ends in .html" in capsys.readouterr().err


def test_two_runs_of_one_model_are_named_by_their_folders(written, capsys):
    assert main(["compare", written("one"), written("two")]) == 0
    last = capsys.readouterr().out.splitlines()[-2]
    assert re.match(r"one( \(\w+\))? → two( \(\w+\))?: \d", last)


def test_a_verdict_that_changed_is_said_first(written, capsys):
    never = {("a", "stopped"): [0.0] * 60}
    first, second = written("one"), written("two", never)
    assert main(["compare", first, second]) == 1
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("a: "))
    assert line.endswith(" → broken") and out.splitlines().index(line) == 0
    main(["compare", first, second, "--json"])
    [changed] = json.loads(capsys.readouterr().out)["verdicts"]
    assert (changed["format"], changed["after"]) == ("a", "broken")
