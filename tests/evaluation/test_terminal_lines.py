"""What a user reads at the end of harness eval."""

from __future__ import annotations

import json

from harness.cli.eval_job import adapter_name, default_out
from harness.cli.main import main
from harness.evaluation.analysis.terminal_lines import verdict_block
from harness.records import Verdict
from harness.report.wording import group_names
from harness.view.live import read_progress

FOUND = [
    Verdict("chatml", "works", "as good"),
    Verdict("alpaca", "degraded", "worse than chatml", "use chatml"),
    Verdict("llama3", "broken", "only 3% end", "train in it"),
    Verdict("phi", "unclear", "may be", "more", needed=90),
    Verdict("zephyr", "works", "as good"),
]


def test_the_worst_comes_first_with_what_to_try():
    assert [*verdict_block(FOUND, {})] == [
        ("broken", "llama3  only 3% end"),
        ("", "        try: train in it"),
        ("degraded", "alpaca  worse than chatml"),
        ("", "        try: use chatml"),
        ("unclear", "phi: may be; more"),
        ("works", "chatml, zephyr"),
    ]


def test_a_word_that_changed_says_what_it_was():
    before = {"chatml": "broken", "llama3": "broken", "alpaca": "works", "zephyr": "works"}
    lines = [text for _, text in verdict_block(FOUND, before)]
    assert "alpaca  worse than chatml (was works)" in lines
    assert "chatml (was broken), zephyr" in lines and "llama3  only 3% end" in lines


def test_a_hundred_broken_formats_are_no_hundred_lines():
    found = [Verdict(f"f{at}", "broken", "bad", "use another") for at in range(100)]
    lines = [*verdict_block(found, {})]
    assert len(lines) < 20 and lines[-1][1].startswith("92 more: f8, f9, ")


def test_formats_are_held_out_only_from_a_model_that_was_trained_in_some():
    assert group_names(["native", "held-out"])["held-out"] == "other"
    assert group_names(["native", "seen", "held-out"])["held-out"] == "held-out"


def test_models_and_adapters_have_folders_of_their_own():
    named = [
        default_out(model, adapters)
        for model in ("./my-model", "owner/my-model", "ollama/my-model")
        for adapters in ((), ("runs/mine/adapter",), ("../runs/other",))
    ]
    assert len(set(named)) == len(named)
    assert str(default_out("./my-model", ())) == "build/eval/my-model"
    assert str(named[4]) == "build/eval/owner-my-model+runs-mine"
    assert adapter_name("adapter") == "adapter"


def words(folder, tiny_model, monkeypatch, *flags, verdicts=FOUND[:1]):
    """The exit code of an evaluation with these verdicts."""
    where = "harness.evaluation.analysis.format_verdicts.verdicts"
    monkeypatch.setattr(where, lambda evaluation: verdicts)
    command = ["eval", str(tiny_model), "--formats", "chatml", "--limit", "2", "--out", str(folder)]
    return main([*command, *flags])


def test_fail_on_ends_with_1_for_its_words_alone(tiny_model, tmp_path, monkeypatch, capsys):
    for word, flag, code in (
        ("broken", "broken", 1),
        ("degraded", "broken", 0),
        ("degraded", "degraded", 1),
        ("broken", "degraded", 1),
        ("unclear", "degraded", 0),
        ("broken", "", 0),
    ):
        found = [Verdict("chatml", word, "as it is")]
        flags = ("--fail-on", flag) if flag else ()
        assert words(tmp_path, tiny_model, monkeypatch, *flags, verdicts=found) == code, word
        assert ("--fail-on" in capsys.readouterr().out) == bool(code)
        assert words(tmp_path, tiny_model, monkeypatch, "--json", *flags, verdicts=found) == code
        assert json.loads(capsys.readouterr().out)["verdicts"][0]["word"] == word


def test_the_verdict_comes_before_the_table(tiny_model, tmp_path, monkeypatch, capsys):
    assert words(tmp_path, tiny_model, monkeypatch) == 0
    plain = capsys.readouterr().out
    assert "  WORKS       chatml\n" in plain and "nll_excess" not in plain
    assert "tiny, bfloat16: 1 format, its own is chatml; 2 cases of each kind" in plain
    assert plain.splitlines()[-1] == f"next: harness view {tmp_path}"
    assert words(tmp_path, tiny_model, monkeypatch, "--table") == 0
    table = capsys.readouterr().out
    assert table.index("WORKS") < table.index("nll_excess") and "call_exact" not in table


def test_an_evaluation_records_what_there_was_to_do(tiny_model, tmp_path, monkeypatch):
    """For harness view: the parts of the work with their totals, all of them done at the end."""
    assert words(tmp_path, tiny_model, monkeypatch, "--quiet") == 0
    shown = read_progress(tmp_path)
    assert {phase.name: (phase.done, phase.total) for phase in shown.phases} == {
        "evaluate: score": (4, 4),
        "evaluate: answer": (2, 2),
    }
    one = shown.formats["chatml"]
    assert (one.choices, one.answers, one.references, shown.running) == (2, 2, 2, False)
    table = json.loads((tmp_path / "scores.json").read_text())
    right = [cell["mean"] for cell in table["cells"] if cell["metric"] == "choice"]
    assert right == [one.right / 2]
