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
