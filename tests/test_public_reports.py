"""Faults that people reported elsewhere, each with small inputs of our own (public_reports/)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.formats import load_format
from harness.formats.render import render

REPORTS = Path(__file__).parent / "public_reports"


def test_drift_asked(capsys):
    """Only the thought is Chinese, a prompt asks for a Chinese phrase (DeepSeek-V3 #1642, #1226),
    and full-width marks in English.
    """
    assert main(["drift", str(REPORTS / "drift-asked.jsonl"), "--expect", "en", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {row["id"]: row["drift"] for row in rows if "id" in row}
    drifting = {"thought", "tail", "short"}
    assert found == {name: name in drifting for name in found} and len(found) == 6


@pytest.mark.filterwarnings("ignore")  # peft warns of what is tested here
@pytest.mark.parametrize("saved", [False, True], ids=["lora", "modules_to_save"])
def test_tied_head_merge(tiny_model, tmp_path, capsys, saved):
    """An adapter of the head of a model with tied embeddings (peft #2018, LlamaFactory #10832).

    Merged, the head is untied: the embedding stays as it was.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    kind = {"modules_to_save": ["lm_head"]} if saved else {"target_modules": ["lm_head", "q_proj"]}
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    embedding = base.get_input_embeddings().weight.detach().clone()
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        **{"target_modules": ["q_proj"], **kind},
    )
    adapted = get_peft_model(base, config)
    for name, tensor in adapted.named_parameters():
        if "modules_to_save" in name:
            tensor.data += 0.05 * torch.randn_like(tensor)
    adapted.save_pretrained(tmp_path / "adapter")
    command = ["merge", str(tmp_path / "adapter"), "--base", str(tiny_model)]
    assert main([*command, "--out", str(tmp_path / "merged"), "--dtype", "float32"]) == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert merged.config.tie_word_embeddings is False
    ids = torch.tensor([[5, 9, 17, 30]])
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, adapted.eval()(ids).logits, atol=1e-4)
    assert torch.equal(merged.get_input_embeddings().weight, embedding)


def test_st_macros(tmp_path, capsys):
    """Presets with {{name}} and {{char}} in their headers (SillyTavern's ChatML-Names and others)."""
    source = REPORTS / "st-macros" / "instruct.json"
    assert main(["formats", "import", str(source), "--id", "named", "--out", str(tmp_path)]) == 0
    assert "{{" not in capsys.readouterr().out
    chat_format = load_format(tmp_path / "named.jinja")
    assert chat_format.names == "header" and chat_format.stops == ("<|close|>",)
    assert chat_format.roles["user"] == "<|ask|>[{user_name}]"
    conversation = Conversation("c", (Message("user", "Ahoy", "Mara"),))
    rendered = render(conversation, chat_format, add_generation_prompt=True, assistant_name="Tom")
    assert rendered.text == "<|ask|>[Mara]\nAhoy<|close|>\n<|reply|>[Tom]\n"


def test_st_story_newline(tmp_path, capsys):
    """With wrap, SillyTavern ends the story string with a newline (SillyTavern #1261, #1988)."""
    folder = REPORTS / "st-story-newline"
    command = ["formats", "import", str(folder / "instruct.json"), "--id", "pier"]
    command += ["--context", str(folder / "context.json"), "--out", str(tmp_path)]
    assert main(command) == 0
    capsys.readouterr()
    command = ["formats", "render", "pier", str(folder / "chat.json"), "--generation-prompt"]
    assert main([*command, "--formats-dir", str(tmp_path)]) == 0
    wanted = "<|rules|>\nUse few words.<|close|>\n<|ask|>\nAhoy<|close|>\n<|reply|>\nHello"
    assert capsys.readouterr().out.startswith(wanted)


@pytest.mark.parametrize("command", ["import", "detect"])
def test_broken_config(tmp_path, capsys, command):
    """A tokenizer_config.json with a comma too many, or with a byte order mark
    (LlamaFactory #5969, MedQA-ChatGLM #2).
    """
    folder = REPORTS / "broken-config"
    extra = ["--id", "c", "--out", str(tmp_path)] if command == "import" else []
    assert main(["formats", command, str(folder / "comma"), *extra]) == 2
    error = capsys.readouterr().err
    assert "tokenizer_config.json:1: not JSON" in error and error.count("\n") == 1
    assert main(["formats", command, str(folder / "bom"), *extra]) in (0, 1)
    assert "equals" in (out := capsys.readouterr().out) or "stops" in out


@pytest.mark.parametrize("name", ["json-nulls.jsonl", "json-nulls-sharegpt.jsonl"])
def test_json_nulls(capsys, name):
    """A null in a row is an absent value, as datasets writes every column (axolotl #1649)."""
    assert main(["data", "check", str(REPORTS / name)]) == 0
    assert "0 findings" in capsys.readouterr().out


def test_byte_order_mark(tmp_path, capsys):
    """UTF-8 with a byte order mark, as editors on Windows write it (MedQA-ChatGLM #2)."""
    assert main(["data", "check", str(REPORTS / "bom.jsonl")]) == 0
    assert "2 conversations, 0 findings" in capsys.readouterr().out
    out = tmp_path / "out.jsonl"
    assert main(["data", "convert", str(REPORTS / "bom.json"), "--out", str(out)]) == 0
    assert "Name a coin." in out.read_text(encoding="utf-8")


def test_already_templated(capsys):
    """Rows that hold control strings: they are trained as spelt text (AReaL #127)."""
    assert main(["data", "check", str(REPORTS / "already-templated.jsonl")]) == 1
    lines = capsys.readouterr().out.splitlines()
    found = [line.partition("jsonl:")[2] for line in lines if "control string" in line]
    assert [line.partition(":")[0] for line in found] == ["1", "2", "3"]
    for line, string in zip(found, ("<|im_end|>", "</s>", "<|im_start|>"), strict=True):
        assert string in line


def test_tool_rows(tmp_path, capsys):
    """Calls with null content and results as messages; a call that is no JSON is named, and so is a
    key that is left out (LlamaFactory #5866, Automodel #2375).
    """
    rows = str(REPORTS / "tool-rows-openai.jsonl")
    assert main(["data", "check", rows]) == 1
    out = capsys.readouterr().out
    assert "jsonl:3: " in out and "arguments of depth: not JSON" in out
    assert "ignored keys of the data (rows): source (1)" in out and "2 conversations" in out
    kept = tmp_path / "kept.jsonl"
    main(["data", "convert", rows, "--out", str(kept)])
    capsys.readouterr()
    first = json.loads(kept.read_text(encoding="utf-8").splitlines()[0])
    assert first["tools"] and first["messages"][1]["tool_calls"] and first["messages"][2]["content"]
    assert main(["data", "check", str(REPORTS / "tool-rows-sharegpt.jsonl")]) == 0


def recipe(folder, model, formats, rows="few.jsonl", data=""):
    """A run over rows of ours in these formats."""
    path = folder / "run.toml"
    path.write_text(
        f'model = "{model}"\noutput_dir = "{folder / "run"}"\n[formats]\ntrain = {formats}\n'
        f'formats_dir = ["{REPORTS}"]\n[data]\ntrain = ["{REPORTS / rows}"]\n{data}',
        encoding="utf-8",
    )
    return str(path)


def test_answer_cut_off(tiny_model, tmp_path, capsys):
    """max_length leaves no answer (trl #3927, unsloth #2900): the row is refused with its length."""
    question = {"role": "user", "content": "Say it again. " * 60}
    messages = [question, {"role": "assistant", "content": "Again."}]
    short = (REPORTS / "few.jsonl").read_text(encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(short + json.dumps({"messages": messages}) + "\n")
    run = recipe(tmp_path, tiny_model, ["chatml"], tmp_path / "rows.jsonl", "max_length = 200\n")
    assert main(["train", run, "--dry-run"]) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if "refused (too" in line]
    assert "rows.jsonl:9: " in line and "over max_length = 200" in line


def test_nan_loss(tiny_model, tmp_path, capsys):
    """A loss that is NaN must not look like success (trl #6668, happy-llm #50)."""
    import math
    import shutil

    from transformers import AutoModelForCausalLM

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = math.nan
    model.save_pretrained(broken)
    assert main(["train", recipe(tmp_path, broken, ["chatml"])]) != 0
    said = capsys.readouterr()
    assert "not finite" in said.err and "Traceback" not in said.err
    assert "adapter:" not in said.out and "harness eval" not in said.out
    command = ["eval", str(broken), "--formats", "chatml", "--limit", "2"]
    assert main([*command, "--out", str(tmp_path / "eval")]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "NaN" in error and "Traceback" not in error
