"""The Python interface: light to import, thin over the commands' functions, results as tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.api_results import EvaluationResult
from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.extras import is_installed
from harness.gate.baseline_file import read_baseline
from harness.report.document import read_report

LAMPS = "The lamps along the quay were lit one by one as the evening came down over the harbour."
CASES = [
    {
        "id": "capital",
        "messages": [{"role": "user", "content": "Capital of Norway?"}],
        "choices": ["Oslo", "Rome"],
        "answer": 0,
    },
    {
        "id": "check",
        "messages": [{"role": "user", "content": "Name the capital."}],
        "checks": [{"contains": ["Oslo"]}],
    },
]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_import_is_light():
    """In processor time, which other work does not stretch; the best of three."""
    code = (
        "import sys, time; start = time.process_time(); import harness; "
        "print(time.process_time() - start, sum(name in sys.modules for name in "
        "('torch', 'numpy', 'pydantic', 'harness.api')))"
    )
    told = [python(code).split() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in told) < 0.05
    assert {loaded for _, loaded in told} == {"0"}


def test_without_a_model_torch_is_never_imported():
    code = (
        "import sys, harness; harness.load_formats(); harness.drift(['It rained all day.']); "
        "harness.render([{'role': 'user', 'content': 'a'}], 'chatml'); "
        "harness.recall(['a b c'], ['a b c']); print('torch' in sys.modules)"
    )
    assert python(code) == "False"


def test_every_name_is_there_and_others_are_not():
    assert set(harness.__all__) <= set(dir(harness))
    for name in harness.__all__:
        if name == "FormatCallback" and not is_installed("transformers"):
            with pytest.raises(HarnessError, match=r"formatproof\[local\]"):
                getattr(harness, name)
            continue
        assert getattr(harness, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        harness.evalute  # noqa: B018


def test_rendering_takes_tools_thoughts_and_calls_as_a_file_has_them():
    tool = {"name": "weigh", "parameters": {"type": "object", "properties": {}}}
    messages = [
        {"role": "user", "content": "Weigh it."},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "weigh"}]},
        {"role": "tool", "content": "2.4 kg"},
        {"role": "assistant", "content": "It is light."},
    ]
    rendered = harness.render(messages, "qwen2.5", tools=[tool])
    assert '"name": "weigh"' in rendered.text and "<tool_response>\n2.4 kg" in rendered.text
    trained = [(span.kind, span.message) for span in rendered.spans if span.trained]
    assert ("call", 1) in trained and ("content", 3) in trained
    assert not any(message == 2 for _, message in trained)
    with pytest.raises(HarnessError, match="was not called"):
        harness.render([messages[0], messages[2]], "qwen2.5")


def test_rendering_takes_messages_or_a_conversation():
    given = [{"role": "user", "content": "Hi"}]
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    conversation = Conversation("x", (Message("user", "Hi"),))
    for messages in (given, conversation):
        assert harness.render(messages, "chatml", add_generation_prompt=True).text == text
    chatml = harness.load_formats()["chatml"]
    assert harness.render(given, chatml, add_generation_prompt=True).text == text
    with pytest.raises(HarnessError, match="unknown format 'chatlm'"):
        harness.render(given, "chatlm")
    with pytest.raises(HarnessError, match="messages"):
        harness.render([{"role": "user"}], "chatml")


def test_formats_of_a_folder_come_along(tmp_path):
    chatml = harness.load_formats()["chatml"]
    source = Path(chatml.path).read_text(encoding="utf-8")
    (tmp_path / "mine.jinja").write_text(source.replace("chatml", "mine"), encoding="utf-8")
    assert "mine" in harness.load_formats(tmp_path)


def test_recall_says_what_the_command_says(tmp_path, capsys):
    for name, texts in (("outputs", [LAMPS, "", "It is late."]), ("train", [LAMPS, "x y z"])):
        rows = [json.dumps({"id": f"{at}", "text": text}) for at, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    names = [str(tmp_path / f"{name}.jsonl") for name in ("outputs", "train")]
    found = harness.recall(names[0], names[1], null=[LAMPS[:30], "other words"])
    assert repr(found) == "RecallResult(1 of 3 outputs copy a training text)"
    assert found.rows()[1]["near"] is None and found.summary["scored"] == 2
    plain = harness.recall(*names)
    assert main(["recall", names[0], "--against", names[1], "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["outputs"] == json.loads(json.dumps(plain.rows()))
    assert summary["summary"] == plain.summary
    with pytest.raises(HarnessError, match="nothing to compare"):
        harness.recall([], [LAMPS])


def test_drift_says_what_the_command_says(tmp_path, capsys):
    texts = ["It rained all day on the harbour.", "Es regnete den ganzen Tag am Hafen.", "a"]
    file = tmp_path / "texts.jsonl"
    rows = [json.dumps({"id": str(at), "text": text}) for at, text in enumerate(texts)]
    file.write_text("\n".join(rows) + "\n")
    found = harness.drift(texts)
    assert repr(found) == "DriftResult(1 of 2 scored texts drift)"
    assert main(["drift", str(file), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (
        summary["texts"] == json.loads(json.dumps(found.rows()))
        and summary["summary"] == found.summary
    )
    assert not harness.drift(texts[1:2], expect=["en", "de"]).rows()[0]["drift"]
    with pytest.raises(HarnessError, match="invalid language"):
        harness.drift(texts, expect="english language")
    with pytest.raises(HarnessError, match="empty") as caught:
        harness.drift([])
    assert str(caught.value) == "the list is empty"
    with pytest.raises(HarnessError) as caught:
        harness.recall([], texts)
    assert str(caught.value) == "nothing to compare: the list is empty"


def test_a_table_is_html_and_a_data_frame():
    found = harness.drift(["<b>It rained all day</b> on the harbour.", "Es regnete den Tag."])
    page = found._repr_html_()
    assert page.startswith("<table>") and page.count("<tr>") == 3 and "<b>" not in page
    frame = found.to_pandas()
    assert list(frame.columns) == list(found.rows()[0]) and len(frame) == 2


def test_without_pandas_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(HarnessError, match=r"needs pandas — pip install 'formatproof\[pandas\]'"):
        harness.drift(["It rained."]).to_pandas()


def test_a_mistyped_option_is_refused_before_anything_is_done():
    with pytest.raises(HarnessError, match=r"unknown option 'nativ' — did you mean native"):
        harness.evaluate("no-model", nativ="chatml")


@pytest.fixture
def measured(tiny_model, tmp_path) -> tuple[dict, EvaluationResult]:
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in CASES))
    asked = {
        "formats": ["chatml", "alpaca-newline"],
        "cases": [tmp_path / "cases.jsonl"],
        "max_new_tokens": 2,
    }
    return asked, harness.evaluate(tiny_model, out=tmp_path / "before", **asked)


def test_train_evaluate_and_compare(measured, tiny_model, tmp_path):
    asked, before = measured
    assert (
        repr(before)
        == f"EvaluationResult({tiny_model.name}: 2 formats, 2 cases, {len(before.rows())} means)"
    )
    assert {row["format"] for row in before.rows()} == {"chatml", "alpaca-newline"}
    assert all(file.is_file() for file in before.files)
    turns = [{"role": "user", "content": "dog?"}, {"role": "assistant", "content": "lazy"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    config = {
        "model": str(tiny_model),
        "data": {"train": [str(tmp_path / "rows.jsonl")]},
        "formats": {"train": ["chatml"], "held_out": ["alpaca-newline"]},
        "evaluation": {"references": 0, "recall_rows": 0},
    }
    run = harness.train(config, output_dir=tmp_path / "run", max_steps=2, dtype="float32")
    assert run.adapter == tmp_path / "run" / "adapter" and run.run == tmp_path / "run"
    assert [row["kind"] for row in run.rows()].count("step") == 2 and "2 steps" in repr(run)
    after = harness.evaluate(tiny_model, adapter=run.adapter, **asked)
    assert after.files == ()
    found = harness.compare(before, after)
    kept = harness.compare(tmp_path / "before", after, metrics=["choice"])
    assert {row["metric"] for row in kept.rows()} == {"choice"}
    assert [row for row in found.rows() if row["metric"] == "choice"] == kept.rows()
    assert "ComparisonResult(" in found._repr_html_() and len(found.lost) <= len(found.rows())
    with pytest.raises(HarnessError, match="unknown setting 'max_step' — did you mean"):
        harness.train(config, max_step=2)


def test_nothing_is_kept_without_a_folder(measured, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    again = harness.evaluate(tiny_model, **measured[0])
    assert sorted(tmp_path.iterdir()) == before
    assert again.rows() == measured[1].rows()
    with pytest.raises(HarnessError, match="no format and metric in common"):
        harness.compare(again, again, metrics=["nll"])


def test_a_kept_evaluation_says_how_its_formats_were_drawn(measured, tiny_model, tmp_path):
    """Without the name that drew them, a gate with these scores could not draw them again."""
    asked = {**measured[0], "formats": ["grammar:1:seed=5"]}
    found = harness.evaluate(tiny_model, out=tmp_path / "drawn", **asked)
    assert read_baseline(found.files[-1]).grammar == ("grammar:1:seed=5",)
    assert read_report(tmp_path / "drawn" / "report.json").model.asked_for == str(tiny_model)


def test_encoding_trains_the_answer_alone(tiny_model, tokenizer):
    turns = [{"role": "user", "content": "dog?"}, {"role": "assistant", "content": "lazy"}]
    encoded = harness.encode(turns, "chatml", tiny_model)
    assert encoded == harness.encode(turns, "chatml", tokenizer)
    trained = [each for each, on in zip(encoded.ids, encoded.trained, strict=True) if on]
    assert tokenizer.decode(trained).startswith("lazy<|im_end|>")
