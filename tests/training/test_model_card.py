"""The model card of an exported adapter: its scores come from the run's log and from a report."""

from __future__ import annotations

import json
from itertools import islice
from types import SimpleNamespace

from harness.formats import load_formats
from harness.metrics.registry import METRICS, headline
from harness.training.share import model_card
from harness.training.share.model_card import CardFacts, write_card


def card_of(folder, run=None, report=None) -> str:
    facts = CardFacts(
        "adapter", "owner/base", {}, None, load_formats()["chatml"], (), "unknown", "unknown"
    )
    write_card(folder, facts, run, report)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_data_of_a_run_is_described_with_its_thoughts_and_calls():
    counts = {"conversations": 2, "files": 1, "tags": {}}
    facts = SimpleNamespace(run=SimpleNamespace(data=counts), data_license="mit")
    assert next(islice(model_card._data(facts), 2, None)) == (
        "2 conversations of 1 files, licence mit."
    )
    counts["thoughts_and_calls"] = ["thoughts in 1 of 3 answers", "2 calls, 1 tool"]
    assert next(islice(model_card._data(facts), 2, None)) == (
        "2 conversations of 1 files; thoughts in 1 of 3 answers; 2 calls, 1 tool, licence mit."
    )


def test_a_line_of_the_log_that_was_cut_off_is_left_out(tmp_path):
    entry = {"kind": "checkpoint", "step": 3, "nll_native": 1.25}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(entry) + '\n{"kind": "step", "st')
    card = card_of(tmp_path, run=tmp_path)
    assert "At step 3 and step 3" in card and "| nll_native | 1.250 | 1.250 |" in card


def test_the_table_of_a_report_has_every_headline_metric_and_no_other(tmp_path, monkeypatch):
    score = SimpleNamespace(mean=0.5, n=8)
    report = SimpleNamespace(
        created="2026-11-28T08:00",
        runs=[SimpleNamespace(verdicts=[SimpleNamespace(format="chatml", word="works")])],
        formats=[SimpleNamespace(id="chatml", group="native")],
        cells=lambda _: {("chatml", name): score for name in METRICS},
    )
    monkeypatch.setattr(model_card, "read_report", lambda _: report)
    (tmp_path / "given.json").write_text("{}")
    card = card_of(tmp_path, report=tmp_path / "given.json")
    titles = " | ".join(headline())
    assert f"| format | group | verdict | {titles} |" in card
    assert f"| chatml | native | works |{' 0.50 (8) |' * len(headline())}" in card
