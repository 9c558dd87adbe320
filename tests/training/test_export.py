"""harness export: plain transformers and peft load the result, in a process without harness."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.render import render
from harness.models import load, load_tokenizer, locate
from harness.tokens.encode import bos_text
from harness.training.config import EvaluationConfig, QuantisationConfig
from harness.training.share.export import ExportJob, chat_template, export
from harness.training.start import train
from tests.device import chosen_device
from tests.training.small import small_config

ELSEWHERE = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

base, folder = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(base)
if len(tokenizer) > model.config.vocab_size:
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
model = PeftModel.from_pretrained(model, folder)
rows = [{"role": "user", "content": "capital?"}]
text = tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
inputs = tokenizer.apply_chat_template(rows, add_generation_prompt=True, return_tensors="pt", return_dict=True)
settings = GenerationConfig.from_pretrained(folder)
settings.max_new_tokens = 8
out = model.generate(**inputs, generation_config=settings)
assert "harness" not in sys.modules
print(json.dumps({"text": text, "ids": inputs["input_ids"].tolist()[0], "new": out[0, inputs["input_ids"].shape[1]:].tolist(), "eos": settings.eos_token_id}))
"""


@pytest.fixture
def run(tiny_model, tmp_path):
    config = small_config(
        tiny_model,
        tmp_path,
        formats=("chatml", "llama3"),
        adapter={"train_control_tokens": True},
        optimisation={"num_train_epochs": 1},
    )
    return train(config, quiet=True).parent


def test_plain_transformers_and_peft_load_it(run, tiny_model, tmp_path):
    out = export(ExportJob(run, tmp_path / "out", "llama3"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE, str(tiny_model), str(out)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tokenizer = load_tokenizer(locate(str(tiny_model)))
    conversation = Conversation("c", (Message("user", "capital?"),))
    ours = render(
        conversation,
        load_formats()["llama3"],
        add_generation_prompt=True,
        bos_token=bos_text(tokenizer),
        eos_token=tokenizer.eos_token,
    )
    assert found["text"] == ours.text
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(out)
    assert set(found["eos"]) == {again.eos_token_id, again.convert_tokens_to_ids("<|eot_id|>")}
    assert 1 <= len(found["new"]) <= 8
    ours = load(str(tiny_model), adapter=str(out), dtype="float32", device=chosen_device())
    assert len(ours.tokenizer) == len(again), "harness loads it too, with its control tokens"


def test_the_card_holds_what_is_known_and_no_path(run, tiny_model, tmp_path):
    out = export(
        ExportJob(
            run, tmp_path / "out", "alpaca-newline", base_id="owner/base", license="apache-2.0"
        )
    )
    card = (out / "README.md").read_text(encoding="utf-8")
    head, body = card.split("---\n", 2)[1:]
    assert 'base_model: "owner/base"' in head and 'license: "apache-2.0"' in head
    assert "**It was not trained in this format**, but in chatml, llama3" in body
    assert "| optimisation.learning_rate | 0.01 |" in body and "| adapter.lora_r | 4 |" in body
    assert (
        "4 conversations of 1 files, licence unknown." in body
        and "None were measured in the run." in body
    )
    assert "stop_strings=" in body and "resize_token_embeddings" in body
    for file in out.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name
    assert (
        json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "owner/base"
    )


@pytest.mark.extras
def test_the_card_shows_the_scores_of_run_and_report(tiny_model, tmp_path, capsys):
    from dataclasses import replace

    config = small_config(
        tiny_model,
        tmp_path,
        quantisation=QuantisationConfig(load_in_4bit=True),
        optimisation={"num_train_epochs": 1},
    )
    run = train(
        replace(
            config, evaluation=EvaluationConfig(references=2, formats_measured=1, recall_rows=0)
        ),
        quiet=True,
    ).parent
    report = [
        "eval",
        str(tiny_model),
        "--adapter",
        str(run / "adapter"),
        "--load-in-4bit",
        "--formats",
        "chatml",
        "--limit",
        "2",
        "--max-new-tokens",
        "2",
    ]
    assert main([*report, "--out", str(tmp_path / "eval")]) == 0
    assert json.loads((tmp_path / "eval" / "report.json").read_text())["model"]["dtype"].endswith(
        "nf4+double"
    )
    capsys.readouterr()
    command = [
        "export",
        str(run),
        "--out",
        str(tmp_path / "out"),
        "--format",
        "chatml",
        "--report",
        str(tmp_path / "eval" / "report.json"),
    ]
    assert main(command) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert "| nll_seen |" in card and f"{last['nll_seen']:.3f} |" in card
    assert "| chatml | native |" in card and "QLoRA adapter (base in nf4)" in card
    assert (tmp_path / "out" / "report.json").is_file()


@pytest.mark.extras
def test_a_note_tells_that_the_base_was_stored_otherwise(tiny_model, tmp_path, capsys):
    config = small_config(
        tiny_model,
        tmp_path,
        quantisation=QuantisationConfig(load_in_4bit=True),
        optimisation={"num_train_epochs": 1},
    )
    adapter = train(config, quiet=True)
    command = [
        "eval",
        str(tiny_model),
        "--adapter",
        str(adapter),
        "--formats",
        "chatml",
        "--limit",
        "1",
        "--max-new-tokens",
        "2",
        "--out",
        str(tmp_path / "e"),
    ]
    assert main(command) == 0
    assert "--load-in-4bit measures it as it was trained" in capsys.readouterr().err


def test_a_bos_that_the_model_was_never_given_is_not_written(tokenizer):
    format = load_formats()["llama3"]
    assert "bos_token" in format.template and bos_text(tokenizer) == ""
    template = chat_template(format, tokenizer)
    assert "bos_token" not in template
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], chat_template=template, tokenize=False
    )
    assert not text.startswith(tokenizer.bos_token)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"format": "no-such"}, "unknown format"), ({"source": "nowhere"}, "no such folder")],
)
def test_mistakes_are_told_and_nothing_is_written(run, tmp_path, change, says):
    from dataclasses import replace
    from pathlib import Path

    job = ExportJob(run, tmp_path / "out", "chatml")
    with pytest.raises(HarnessError, match=says):
        export(
            replace(
                job,
                **{key: Path(value) if key == "source" else value for key, value in change.items()},
            )
        )
    assert not (tmp_path / "out").exists()
