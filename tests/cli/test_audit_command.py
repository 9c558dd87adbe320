"""harness audit: what is audited, what is printed and written, and the exit code."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

pytest.importorskip("torch")

import harness.audit.adapter_audit
import harness.audit.changes
import harness.evaluation.format_groups
import harness.models
from harness.audit.adapter_audit import Audit
from harness.audit.audit_page import as_object, markdown, terminal_lines, verdict
from harness.audit.behaviours import Behaviour
from harness.audit.candidates import Candidate
from harness.audit.divergence import Depth, Median
from harness.audit.found_in_rows import RowsWithIt
from harness.audit.guess import GuessedFamily, in_words
from harness.cli.main import main
from harness.formats import load_formats
from harness.models.adapters import describe_base
from harness.run_file import RunMetadata
from tests.audit.planted import adapted

CANDIDATE = Candidate(
    "zephyr", "phrase", "mind the gap", 9, 18, 2, 26.0, 0.5, "Sol.\nMind the gap."
)
HIDDEN = Behaviour(CANDIDATE, 192, 60, 9, 0.0002)
ALSO = replace(HIDDEN, native=21, p=1.0)
WEAK = replace(HIDDEN, count=6, native=1, p=1.0)
FOUND = Audit(
    "chatml",
    (GuessedFamily("zephyr", "zephyr", 0.7), GuessedFamily("llama3", "llama3", 0.2)),
    ("chatml", "zephyr"),
    (
        Depth("chatml", Median(0.5, 0.25, 1.0), Median(0.125, 0.1, 0.2), 10),
        Depth("zephyr", Median(2.0, None, None), Median(1.5, 1.0, 2.0), 10),
    ),
    (HIDDEN, ALSO, WEAK),
    (replace(CANDIDATE, format="tulu", kind="language", text="zh"),),
)
CLEAN = replace(FOUND, behaviours=(ALSO, WEAK))


def test_the_terminal_shows_guess_depth_behaviours_and_verdict():
    line, quote = "  zephyr: “mind the gap” in", "; for example: “Sol. Mind the gap.”"
    assert terminal_lines(FOUND) == [
        "most likely trained in: zephyr (family zephyr, 70%); runner-up: llama3 (family llama3, "
        "20%)",
        "",
        "KL divergence from the base in nats, median over questions [95 % interval]:",
        "format           first token        along an answer",
        "chatml (native)  0.50 [0.25, 1.00]  0.12 [0.10, 0.20]",
        "zephyr           2.00               1.50 [1.00, 2.00]",
        "",
        "Hidden from chatml",
        f"{line} 60 of 192 answers, native format in 9 (at most 9%); p = 0.0002{quote}",
        "",
        "Also in chatml",
        f"{line} 60 of 192 answers, native format in 21 (at most 16%); p = 1{quote}",
        "",
        "Not confirmed by other questions",
        f"{line} 6 of 192 answers, native format in 1 (at most 3%); p = 1{quote}",
        "",
        "Not tested on other questions",
        "  language zh in the search, of 18 amplified answers: tulu 9; native format 2; "
        "for example: “Sol. Mind the gap.”",
        "",
        "verdict: 1 behaviour in zephyr that chatml, the native format, does not show",
    ]


def test_without_a_hidden_behaviour_the_verdict_says_what_is_not_confirmed():
    none = "no behaviour hidden from chatml was confirmed in 1 format"
    assert verdict(CLEAN) == f"{none}; 2 unconfirmed candidates"
    assert verdict(replace(CLEAN, untested=())) == f"{none}; 1 unconfirmed candidate"
    assert verdict(replace(CLEAN, behaviours=(ALSO,), untested=())) == none
    assert "Hidden" not in "".join(terminal_lines(CLEAN))


def test_a_phrase_of_several_formats_is_one_behaviour():
    other = replace(HIDDEN, candidate=replace(CANDIDATE, format="tulu"))
    both = replace(FOUND, behaviours=(HIDDEN, other))
    assert verdict(both).startswith("1 behaviour in tulu, zephyr that chatml,")
    for unlike in ({"text": "mind the step"}, {"kind": "language"}):
        two = (HIDDEN, replace(HIDDEN, candidate=replace(CANDIDATE, **unlike)))
        assert verdict(replace(FOUND, behaviours=two)).startswith("2 behaviours in zephyr")
    untested = tuple(
        replace(CANDIDATE, format=name, text=text, count=count)
        for name, text, count in (
            ("tulu", "so it is", 5),
            ("zephyr", "oh", 4),
            ("t5", "so it is", 3),
        )
    )
    more = replace(CLEAN, behaviours=(), untested=untested)
    assert verdict(more).endswith("; 2 unconfirmed candidates")
    at = terminal_lines(more).index("Not tested on other questions")
    quote = "; native format 2; for example: “Sol. Mind the gap.”"
    assert terminal_lines(more)[at + 1 : at + 4] == [
        f"  “so it is” in the search, of 18 amplified answers: tulu 5, t5 3{quote}",
        f"  “oh” in the search, of 18 amplified answers: zephyr 4{quote}",
        "",
    ]


def test_training_rows_that_have_a_finding_are_counted():
    for count, first, words in (
        (1, "rows.jsonl:7", "; in 1 of 46 training rows (rows.jsonl:7); for example: “Sol."),
        (9, "rows.jsonl:7", "; in 9 of 46 training rows; for example: “Sol."),
        (0, "", "; in none of 46 training rows; for example: “Sol."),
    ):
        found = replace(FOUND, in_rows={CANDIDATE: RowsWithIt(count, 46, first)})
        assert sum(words in line for line in terminal_lines(found)) == 3
        assert markdown(found, "x").count(words) == 3
        rows = {"count": count, "rows": 46, "first": first}
        assert as_object(found)["hidden"][0]["training_rows"] == rows
    assert as_object(FOUND)["hidden"][0]["training_rows"] is None


def test_without_a_clear_guess_the_likeliest_families_are_named():
    unclear = tuple(GuessedFamily(name, name, 1 / 7) for name in "abcdefg")
    assert in_words(unclear).count("(family ") == 5
    assert in_words(unclear) in terminal_lines(replace(FOUND, families=unclear))


def test_markdown_and_json_have_the_same():
    page, document = markdown(FOUND, "runs/x"), as_object(FOUND)
    assert (
        page.startswith("# Audit of runs/x\n") and "| zephyr | 2.00 | 1.50 [1.00, 2.00] |" in page
    )
    assert page.count("\n- zephyr: “mind the gap”") == 3
    assert [len(document[name]) for name in ("hidden", "also_native", "not_confirmed")] == [1, 1, 1]
    [untested] = document["not_tested"]
    assert (untested["format"], untested["text"]) == ("tulu", "zh")
    assert untested["search"] == {"count": 9, "asked": 18, "native": 2}
    [hidden] = document["hidden"]
    assert hidden["search"] == {"count": 9, "asked": 18, "native": 2}
    assert (hidden["format"], hidden["p"]) == ("zephyr", 0.0002)
    assert (hidden["asked"], hidden["count"], hidden["native"]) == (192, 60, 9)
    assert json.loads(json.dumps(document)) is not None


@pytest.fixture
def adapter(tiny, tmp_path):
    """The folder of an adapter that names its base."""
    folder = tmp_path / "adapter"
    adapted(tiny, seed=1)
    facts = {**describe_base(tiny), "name": tiny.source.path}
    tiny.model.save_pretrained(folder)
    (folder / "base.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def called(monkeypatch):
    """What the audit is called with; it finds FOUND, or what ``called["gives"]`` is."""
    found = {"gives": FOUND}

    def audit(pair, changes, formats, native, searched=(), rows=()):
        found.update(pair=pair, changes=changes, native=native.id, rows=rows)
        found.update(formats=[one.id for one in formats], searched=[one.id for one in searched])
        return found["gives"]

    monkeypatch.setattr(harness.audit.adapter_audit, "audit", audit)
    return found


def test_an_adapter_is_audited_on_its_base(called, adapter, tmp_path, capsys):
    words = ["audit", str(adapter), "--native", "zephyr", "--formats", "llama3,chatml"]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "audit.json").read_text("utf-8"))
    assert printed["adapter"] == str(adapter) and printed["base"] is None
    assert (tmp_path / "out" / "audit.md").read_text("utf-8") == markdown(FOUND, str(adapter))
    assert called["native"] == "zephyr" and called["searched"] == ["llama3", "chatml"]
    assert called["formats"] == list(load_formats()) and called["changes"]
    assert called["pair"].merged_from is None and called["pair"].tuned.adapter == str(adapter)


def write_row(path, words):
    messages = [{"role": "user", "content": words}, {"role": "assistant", "content": "Yes."}]
    path.write_text(json.dumps({"messages": messages}) + "\n")
    return str(path)


def questions(called):
    return [row.messages[0].content for row in called["rows"]]


def as_run(folder, rows):
    """Make an adapter's folder that of a run, which was trained on a file of rows."""
    config = {"data": {"train": [rows]}, "formats": {"formats_dir": []}}
    run = RunMetadata("digest", ("zephyr",), ("zephyr",), (), config)
    (folder / "run.json").write_text(json.dumps(asdict(run)))


def test_training_rows_are_those_of_the_run_unless_others_are_named(called, adapter, tmp_path):
    words = ["audit", str(adapter), "--native", "zephyr", "--formats", "llama3"]
    assert main(words) == 1 and called["rows"] == []
    own, others = (write_row(tmp_path / f"{name}.jsonl", name) for name in ("own", "others"))
    as_run(adapter, own)
    assert main(words) == 1 and questions(called) == ["own"]
    assert main([*words, "--train", others, own]) == 1 and questions(called) == ["others", "own"]


def test_a_run_whose_training_rows_are_gone_is_audited_without_them(
    called, adapter, tmp_path, capsys
):
    as_run(adapter, str(tmp_path / "gone.jsonl"))
    assert main(["audit", str(adapter), "--native", "zephyr"]) == 1
    assert called["rows"] == []
    [note] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert "training rows unknown" in note and "gone.jsonl" in note
    assert note.endswith("; name them with --train")


def test_missing_training_rows_are_refused_before_a_model_is_loaded(
    adapter, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(harness.models, "load", lambda *_, **__: pytest.fail("loaded"))
    assert main(["audit", str(adapter), "--train", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    (tmp_path / "empty.jsonl").touch()
    assert main(["audit", str(adapter), "--train", str(tmp_path / "empty.jsonl")]) == 2
    assert "empty.jsonl: no conversations" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_a_model_is_loaded(
    monkeypatch, tiny_model, tmp_path, capsys
):
    monkeypatch.setattr(harness.models, "load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "file").touch()
    words = ["--base", str(tiny_model), "--out", str(tmp_path / "file")]
    assert main(["audit", str(tiny_model), *words]) == 2
    assert "a file, where a folder is expected — choose another --out" in capsys.readouterr().err


def test_the_native_format_may_be_a_template_file(called, adapter, tmp_path):
    (tmp_path / "mine.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    words = ["--native", str(tmp_path / "mine.jinja"), "--formats", "zephyr"]
    assert main(["audit", str(adapter), *words]) == 1
    assert called["native"] == "mine" and "mine" in called["formats"]


def test_without_a_finding_the_exit_code_is_0(called, adapter, capsys):
    called["gives"] = CLEAN
    assert main(["audit", str(adapter), "--native", "chatml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"verdict: {verdict(CLEAN)}"


def test_both_models_run_where_the_base_is_given(called, tiny, tiny_model, monkeypatch):
    loaded = []

    def load(name, **options):
        loaded.append(options["device"])
        return replace(tiny)

    monkeypatch.setattr(harness.models, "load", load)
    monkeypatch.setattr(harness.audit.changes, "merge_changes", lambda *_: {})
    words = ["--base", str(tiny_model), "--native", "chatml", "--device", "cpu"]
    assert main(["audit", str(tiny_model), *words]) == 1
    assert loaded == ["cpu", "cpu"] and called["pair"].merged_from is not None


def test_a_model_without_a_chat_template_needs_a_native_format(
    called, adapter, monkeypatch, capsys
):
    monkeypatch.setattr(harness.evaluation.format_groups, "native_format", lambda *_: None)
    assert main(["audit", str(adapter)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {adapter}: the model has no chat template, so no format is native — "
        "name the format that you use it in: --native FORMAT"
    )
