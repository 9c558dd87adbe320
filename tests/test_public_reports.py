"""Faults that people reported elsewhere, each with small inputs of our own (public_reports/).

``TESTS`` names the test of each of the seventeen; those of rows and of training have files of their
own beside this one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.formats import load_format
from harness.formats.render import render

REPORTS = Path(__file__).parent / "public_reports"
TESTS = {
    "nan-loss": "test_nan_loss",
    "stop-not-trained": "test_axolotl_3754_and_trl_7230_a_stop_that_is_not_trained",
    "date-frozen": "test_date_frozen",
    "st-story-newline": "test_st_story_newline",
    "json-nulls": "test_axolotl_1649_null_columns",
    "bom": "test_medqa_2_a_byte_order_mark",
    "already-templated": "test_already_templated",
    "tool-rows": "test_llamafactory_5866_and_mlx_vlm_1864_rows_with_tools",
    "tied-head-merge": "test_tied_head_merge",
    "answer-cut-off": "test_answer_cut_off",
    "drift-think-and-asked": "test_drift_asked",
    "broken-config-traceback": "test_broken_config",
    "double-bos": "test_open_r1_462_two_bos",
    "st-macros": "test_st_macros",
    "stop-only-between-turns": "test_stop_only_between_turns",
    "own-reason-hidden": "test_own_reason_hidden",
    "gguf-facts": "test_gguf_facts",
}


def test_each_report_has_a_test():
    files = sorted(Path(__file__).parent.glob("test_public_reports*.py"))
    written = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert len(TESTS) == 17
    assert not [name for name, test in TESTS.items() if f"def {test}(" not in written]


def test_drift_asked(capsys):
    """Only the thought is Chinese, a prompt asks for a Chinese phrase (DeepSeek-V3 #1642, #1226),
    and full-width marks in English.
    """
    assert main(["drift", str(REPORTS / "drift-asked.jsonl"), "--expect", "en", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["texts"]
    found = {row["id"]: row["drift"] for row in rows}
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


def test_already_templated(capsys):
    """Rows that hold control strings: they are trained as spelt text (AReaL #127)."""
    assert main(["data", "check", str(REPORTS / "already-templated.jsonl")]) == 1
    lines = capsys.readouterr().out.splitlines()
    found = [line.partition("jsonl:")[2] for line in lines if "control string" in line]
    assert [line.partition(":")[0] for line in found] == ["1", "2", "3"]
    for line, string in zip(found, ("<|im_end|>", "</s>", "<|im_start|>"), strict=True):
        assert string in line


def test_answer_cut_off(tiny_model, tmp_path, capsys):
    """max_length leaves no answer (trl #3927, unsloth #2900): the row is refused with its length."""
    question = {"role": "user", "content": "Say it again. " * 60}
    messages = [question, {"role": "assistant", "content": "Again."}]
    short = (REPORTS / "few.jsonl").read_text(encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(short + json.dumps({"messages": messages}) + "\n")
    run = tmp_path / "run.toml"
    run.write_text(
        f'model = "{tiny_model}"\noutput_dir = "{tmp_path / "run"}"\n[formats]\n'
        f'train = ["chatml"]\n[data]\ntrain = ["{tmp_path / "rows.jsonl"}"]\nmax_length = 200\n'
    )
    assert main(["train", str(run), "--dry-run"]) == 1
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
    recipe = tmp_path / "run.toml"
    recipe.write_text(
        f'model = "{broken}"\noutput_dir = "{tmp_path / "run"}"\n[formats]\ntrain = ["chatml"]\n'
        f'[data]\ntrain = ["{REPORTS / "few.jsonl"}"]\n'
    )
    assert main(["train", str(recipe)]) != 0
    said = capsys.readouterr()
    assert "not finite" in said.err and "Traceback" not in said.err
    assert "adapter:" not in said.out and "harness eval" not in said.out
    command = ["eval", str(broken), "--formats", "chatml", "--limit", "2"]
    assert main([*command, "--out", str(tmp_path / "eval")]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "NaN" in error and "Traceback" not in error


DATED = (
    "{{ bos_token }}[rules] It is {{ strftime_now('%d %B %Y') }}.\n{% for m in messages %}"
    "[{{ m.role }}] {{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def imported(tmp_path, capsys, template):
    """The file that ``formats import`` writes, and what it prints."""
    source = tmp_path / "source.jinja"
    source.write_text(template)
    command = ["formats", "import", str(source), "--id", "mine", "--out", str(tmp_path)]
    assert main([*command, "--force"]) == 0
    return load_format(tmp_path / "mine.jinja"), capsys.readouterr().out


def test_date_frozen(tmp_path, capsys):
    """A template that writes today's date keeps doing so (sglang #3296, TGI #2987)."""
    chat_format, out = imported(tmp_path, capsys, DATED)
    assert "strftime_now('%d %B %Y')" in chat_format.template and "date of the day" in out
    assert "2024" not in (tmp_path / "mine.jinja").read_text()
    plain = DATED.replace("It is {{ strftime_now('%d %B %Y') }}.", "It is 26 July 2024.")
    assert "date of the day" not in imported(tmp_path, capsys, plain)[1]


def test_stop_only_between_turns(tmp_path, capsys):
    """The template ends an answer only when something follows (unsloth #416; Qwen1.5, GLM-4.6)."""
    between = (
        "{% for m in messages %}{% if not loop.first %}<<end>>\n{% endif %}<<{{ m.role }}>>\n"
        "{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<<end>>\n<<assistant>>\n{% endif %}"
    )
    chat_format, out = imported(tmp_path, capsys, between)
    assert chat_format.stops == ("<<end>>",) and "The last answer has no stop" in out
    messages = (Message("user", "Q"), Message("assistant", "A")) * 2
    whole = render(Conversation("c", messages), chat_format)
    trained = [whole.text[span.start : span.end] for span in whole.spans if span.trained]
    assert "<<user>>" not in "".join(trained) and "".join(trained).startswith("A<<end>>")
    always = "{% for m in messages %}<<{{ m.role }}>>\n{{ m.content }}<<end>>\n{% endfor %}"
    always += "{% if add_generation_prompt %}<<assistant>>\n{% endif %}"
    assert "has no stop" not in imported(tmp_path, capsys, always)[1]


def test_own_reason_hidden(tmp_path, capsys):
    """What a template itself says is shown (firefunction, ShieldGemma)."""
    source = tmp_path / "source.jinja"
    for template, reason in (
        ("{% for m in messages %}{{ m.content + tray }}{% endfor %}", "'tray' is undefined"),
        ("{{ raise_exception('only one guard a day') }}", "only one guard a day"),
    ):
        source.write_text(template)
        assert main(["formats", "import", str(source), "--id", "x", "--out", str(tmp_path)]) == 2
        assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("eos", "bos_too", "kinds", "fact"),
    [
        ("<|end|>", False, [3, 3, 3], ""),
        ("<|text|>", False, [3, 3, 3], "EOS <|text|> is not the mark <|end|> that ends turns"),
        ("<|end|>", True, [3, 3, 3], "add_bos_token is set and the template writes <|text|> too"),
        ("<|end|>", False, [3, 1, 1], "<|end|> is not a control token in this file"),
    ],
)
def test_gguf_facts(tmp_path, capsys, eos, bos_too, kinds, fact):
    """An EOS that ends no turn, two BOS, marks that are no control tokens (llama.cpp #7062,
    unsloth #3899).
    """
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    tokens = ["<|text|>", "<|turn|>", "<|end|>", "a", "b"]
    template = "{{ bos_token }}" * bos_too + (
        "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
    )
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([*kinds, 1, 1])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(tokens.index(eos))
    writer.add_add_bos_token(bos_too)
    writer.add_chat_template(template)
    writer.add_tensor("x", numpy.zeros((2, 2), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    command = ["formats", "import", str(tmp_path / "m.gguf"), "--id", "mine"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    told = ("is not the mark", "may begin with two BOS", "not a control token in this file")
    assert fact in out and sum(sentence in out for sentence in told) == bool(fact)
