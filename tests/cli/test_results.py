"""A results file on the terminal and as files for other programs."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing

import pytest

from harness.cli.main import main
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from tests.evaluation.conftest import ask
from tests.scripted_backend import ScriptedBackend


@pytest.fixture
def found(tmp_path):
    cases = [
        ask("c1", "Capital of Norway?", choices=["Oslo", "Rome", "Lima"], answer=0),
        ask("a1", "Say hello, twice.", checks=[{"contains": "hello"}]),
        ask("r1", "Why?", reference="Because."),
    ]
    formats = load_formats().select(["chatml", "llama3"])
    backend = ScriptedBackend(
        lambda prompt: 'hello, "hello"\n</s>' if prompt.format == "chatml" else ""
    )
    with Store(tmp_path / "results.sqlite") as store:
        return evaluate(
            backend,
            cases,
            formats,
            {"chatml": "native", "llama3": "held-out"},
            "chatml",
            store,
            EvalSettings(),
            quiet=True,
        )


def output_of(capsys, *args):
    assert main(["results", *map(str, args)]) == 0
    return capsys.readouterr().out


def test_means_are_those_of_the_report(found, tmp_path, capsys):
    rows = json.loads(output_of(capsys, "query", tmp_path, "--json"))
    assert {(r["format"], r["metric"]): (r["mean"], r["n"], r["not_scored"]) for r in rows} == {
        (c.format, c.metric): (c.mean, c.n, c.not_scored) for c in found.aggregates
    }
    text = output_of(capsys, "query", tmp_path, "--metric", "choice,stopped", "--format", "llama*")
    assert text.splitlines()[0].split() == ["run", "format", "metric", "mean", "n", "not_scored"]
    assert len(text.splitlines()) == 3 and "chatml" not in text


def test_two_models_in_one_file_are_not_mixed(found, tmp_path, capsys):
    formats, groups = list(found.formats), found.groups
    other = ScriptedBackend(lambda prompt: "no</s>", name="other")
    with Store(tmp_path / "results.sqlite") as store:
        second = evaluate(
            other,
            found.cases,
            formats,
            groups,
            "chatml",
            store,
            EvalSettings(),
            quiet=True,
            model="other",
            adapter="tuned",
        )
    rows = json.loads(
        output_of(
            capsys, "query", tmp_path, "--metric", "answer_lenient", "--format", "chatml", "--json"
        )
    )
    means = [each.aggregate("chatml", "answer_lenient").mean for each in (found, second)]
    assert [(row["name"], row["mean"]) for row in rows] == list(
        zip(["", "other + tuned"], means, strict=True)
    )
    assert rows[0]["mean"] != rows[1]["mean"]
    text = output_of(capsys, "query", tmp_path, "--metric", "stopped")
    assert "other + tuned" in text and text.splitlines()[0].split()[:3] == ["run", "name", "model"]


def test_quantised_and_whole_weights_in_one_file_are_not_mixed(found, tmp_path, capsys):
    class Quantised(ScriptedBackend):
        @property
        def fingerprint(self):
            return {**super().fingerprint, "quantisation": "nf4"}

    with Store(tmp_path / "results.sqlite") as store:
        evaluate(
            Quantised(lambda prompt: "no</s>"),
            found.cases,
            list(found.formats),
            found.groups,
            "chatml",
            store,
            EvalSettings(),
            quiet=True,
        )
    rows = json.loads(
        output_of(
            capsys, "query", tmp_path, "--metric", "answer_lenient", "--format", "chatml", "--json"
        )
    )
    assert [(row["quantisation"], row["n"]) for row in rows] == [("", 1), ("nf4", 1)]


def test_a_probe_and_a_case_can_be_asked_for(found, tmp_path, capsys):
    rows = json.loads(
        output_of(
            capsys,
            "query",
            tmp_path,
            "--each",
            "--json",
            "--probe",
            "reference",
            "--format",
            "chatml",
        )
    )
    assert {row["metric"] for row in rows} == {"nll", "nll_excess", "hazard_ref"} and {
        row["case"] for row in rows
    } == {"r1"}
    text = output_of(capsys, "query", tmp_path / "results.sqlite", "--table", "cells")
    assert text.splitlines()[1].split()[-1] == "1" and len(text.splitlines()) == 7
    text = output_of(capsys, "query", tmp_path, "--table", "cells", "--case", "a1", "--each")
    assert 'hello, "hello"' in text and "–" in text


@pytest.mark.extras
@pytest.mark.parametrize("table", ["scores", "cells"])
def test_the_three_exports_hold_the_same(found, tmp_path, capsys, table):
    import pyarrow.parquet as pa

    for kind in ("csv", "jsonl", "parquet"):
        assert "rows" in output_of(
            capsys,
            "export",
            tmp_path,
            "--to",
            kind,
            tmp_path / "deep" / f"x.{kind}",
            "--table",
            table,
        )
    lines = [json.loads(line) for line in (tmp_path / "deep" / "x.jsonl").read_text().splitlines()]
    table_rows = pa.read_table(tmp_path / "deep" / "x.parquet").to_pylist()
    assert table_rows == lines
    with (tmp_path / "deep" / "x.csv").open(newline="") as file:
        plain = list(csv.DictReader(file))
    assert [
        {
            k: "" if v is None else json.dumps(v) if isinstance(v, list) else str(v)
            for k, v in row.items()
        }
        for row in lines
    ] == plain
    if table == "cells":
        assert Counter(row["probe"] for row in lines) == {
            "choice": 6,
            "answer": 2,
            "reference": 2,
        }, "an option a row"
        assert {row["text"] for row in lines if row["probe"] == "answer"} == {
            'hello, "hello"\n',
            "",
        }
        assert all((row["logprob"] is None) == (row["probe"] == "answer") for row in lines)
    else:
        assert len(lines) == len(found.scores)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [
        "x.csv",
        "x.jsonl",
        "x.parquet",
    ]


def test_mistakes_are_refused(found, tmp_path, capsys, monkeypatch):
    for args, message in (
        (["query", str(tmp_path / "none.sqlite")], "no such file"),
        (["query", str(tmp_path), "--format", "zephyr"], "no row matches"),
        (
            ["query", str(tmp_path), "--table", "cells", "--metric", "choice"],
            "cells have no metric",
        ),
    ):
        assert main(["results", *args]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert (
        main(["results", "export", str(tmp_path), "--to", "parquet", str(tmp_path / "x.parquet")])
        == 2
    )
    assert "formatproof[parquet]" in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()


def test_a_damaged_result_is_one_line(found, tmp_path, capsys):
    with closing(sqlite3.connect(tmp_path / "results.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE cell SET payload = substr(payload, 1, 20) WHERE id = 1")
    assert main(["results", "query", str(tmp_path), "--table", "cells"]) == 2
    assert "a stored result cannot be read" in capsys.readouterr().err
