"""Which class of transformers loads a model, and which kinds of model are refused."""

from __future__ import annotations

import json
import shutil

import pytest

from harness.errors import HarnessError
from harness.models import load, load_tokenizer, locate
from harness.models.architecture import pick_class
from tests import multimodal
from tests.device import chosen_device
from tests.tiny import build_tokenizer

SMALL = {
    "vocab_size": 376,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
BART = {
    "vocab_size": 376,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize("kind", multimodal.KINDS)
def test_a_multimodal_model_is_loaded_whole_and_equals_the_plain_one(kind, tmp_path):
    import torch
    import transformers

    multimodal.build(kind, tmp_path)
    loaded = load(str(tmp_path), dtype="float32", device=chosen_device())
    stored = json.loads((tmp_path / "config.json").read_text())["architectures"]
    assert [type(loaded.model).__name__] == stored
    assert any("vision" in name or "visual" in name for name, _ in loaded.model.named_parameters())
    plain = getattr(transformers, stored[0]).from_pretrained(tmp_path, dtype=torch.float32).eval()
    plain.to(chosen_device())
    ids = torch.arange(3, 60, device=chosen_device()).reshape(1, -1)
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=ids).logits, plain(input_ids=ids).logits)
    text = loaded.model.config.get_text_config()
    assert (text.hidden_size, text.vocab_size) == (64, multimodal.VOCABULARY)


@pytest.mark.parametrize(
    ("name", "kind", "settings", "reason"),
    [
        ("BertForMaskedLM", "bert", SMALL, "a model for another task"),
        ("BertLMHeadModel", "bert", SMALL, "an encoder, which also reads what follows"),
        ("BertModel", "bert", SMALL, "an encoder, which also reads what follows"),
        ("BertGenerationDecoder", "bert-generation", SMALL, "an encoder, which also reads"),
        ("ModernBertModel", "modernbert", SMALL, "an encoder"),
        ("LlamaForSequenceClassification", "llama", SMALL, "a model for another task"),
        (
            "Gemma3TextModel",
            "gemma3_text",
            {**SMALL, "use_bidirectional_attention": True},
            "an encoder",
        ),
        ("BartForConditionalGeneration", "bart", BART, "an encoder-decoder"),
        (
            "T5ForConditionalGeneration",
            "t5",
            {"vocab_size": 376, "d_model": 32},
            "an encoder-decoder",
        ),
    ],
)
def test_what_does_not_predict_the_next_token_is_refused(tmp_path, name, kind, settings, reason):
    """By the configuration alone, so by commands too that never read the weights."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind, **settings)
    config.architectures = [name]
    config.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    weights(tmp_path)
    for use in (load, lambda path: load_tokenizer(locate(path))):
        with pytest.raises(HarnessError, match=rf"this is {reason}.*\({name}\)"):
            use(str(tmp_path))


def weights(folder):
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_decoder_of_the_same_types_is_not_refused():
    from transformers import AutoModelForCausalLM, BartConfig, BertConfig, Qwen2Config

    for config in (
        BertConfig(is_decoder=True, architectures=["BertLMHeadModel"]),
        BartConfig(is_decoder=True, is_encoder_decoder=False, architectures=["BartForCausalLM"]),
        Qwen2Config(architectures=["Qwen2Model"]),
    ):
        assert pick_class(config, "") is AutoModelForCausalLM


def test_a_model_of_images_only_is_refused():
    from transformers import ViTConfig

    with pytest.raises(HarnessError, match="no language model for the type 'vit'"):
        pick_class(ViTConfig(), "x")


@pytest.mark.parametrize("home", ["config.json", "tokenizer_config.json"])
def test_code_of_the_model_is_never_run_and_never_asked_for(tiny_model, tmp_path, home):
    """With "y" on standard input, in a process of its own."""
    import subprocess
    import sys

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    facts = json.loads((folder / home).read_text())
    if home == "config.json":
        facts |= {
            "model_type": "stranger",
            "auto_map": {"AutoConfig": "stranger.Config", "AutoModelForCausalLM": "stranger.Model"},
        }
    else:
        facts |= {
            "tokenizer_class": "Stranger",
            "auto_map": {"AutoTokenizer": ["stranger.A", None]},
        }
    (folder / home).write_text(json.dumps(facts))
    ran = tmp_path / "ran"
    (folder / "stranger.py").write_text(
        f"open({str(ran)!r}, 'w').close()\nConfig = Model = A = None\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "harness",
            "eval",
            str(folder),
            "--limit",
            "1",
            "--out",
            str(tmp_path / "out"),
        ],
        input="y\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ran.exists()
    assert "[y/N]" not in done.stdout + done.stderr
    assert done.returncode == 2, done.stderr
    assert "needs Python code of its own, which is never run" in done.stderr
