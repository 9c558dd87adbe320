"""Train two steps, save, load and merge: the merged model computes what base and adapter computed.

The reference is plain transformers with plain peft.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.cli.main import main
from harness.errors import HarnessError
from harness.models.architecture import pick_class
from harness.training.config import QuantisationConfig
from harness.training.share.export import ExportJob, export
from harness.training.share.merge import merge
from harness.training.start import train
from tests.multimodal import skip_where_broken
from tests.tiny import build_tokenizer
from tests.training.architectures import VOCABULARY, build
from tests.training.small import NF4, small_config, write_rows

WRAPPERS = ("gemma3", "gemma4", "mistral3", "llama4", "qwen3_5")
PROCESSOR = {"preprocessor_config.json": {"size": 28}, "chat_template.json": {"chat_template": "x"}}


def run_of(folder: Path, model: Path, *, targets="all-linear", **sections) -> Path:
    """Two steps of training on this base."""
    config = small_config(
        model,
        folder,
        formats=("chatml",),
        adapter={"lora_target_modules": targets},
        optimisation={"max_steps": 2, "learning_rate": 3e-2},
        **sections,
    )
    return train(config, quiet=True)


def plain(folder: Path, adapter: Path | None = None):
    """The model of a folder as transformers and peft load it."""
    from peft import PeftModel
    from transformers import AutoConfig

    kind = pick_class(AutoConfig.from_pretrained(folder), str(folder))
    model = kind.from_pretrained(folder, dtype=torch.float32)
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return (
            model(input_ids=torch.arange(3, 40, device=model.device).unsqueeze(0), use_cache=False)
            .logits[0]
            .float()
        )


def apart(one, other) -> float:
    return float((logits(one) - logits(other)).abs().max())


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("gpt2", "all-linear"),
        ("mamba", "all-linear"),
        ("falcon_h1", "all-linear"),
        ("qwen2_moe", "all-linear"),
        ("gemma4_text", "all-linear"),
        ("llama4_text", ("all-linear", "experts")),
        ("mixtral", ("all-linear", "experts")),
        ("qwen3_moe", ("all-linear", "experts")),
        ("gpt_oss", ("all-linear", "experts")),
        ("granitemoe", ("all-linear", "experts")),
        ("deepseek_v3", ("all-linear", "shared_experts", "experts")),
        ("llama", ("lm_head", "v_proj")),
    ],
)
def test_the_merged_model_is_base_and_adapter(tmp_path, name, targets):
    base = build(name, tmp_path / "base")
    adapter = run_of(tmp_path, base, targets=targets)
    done = merge(adapter, str(base), tmp_path / "merged", "float32")
    assert done.agreement.divergence < 1e-6
    together = plain(base, adapter)
    assert apart(together, plain(tmp_path / "merged")) < 1e-4
    assert apart(together, plain(base)) > 1e-3, "the adapter changes the logits"


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # plain peft's
def test_an_adapted_head_is_untied_from_the_embedding(tmp_path):
    base = build("llama", tmp_path / "base", tie_word_embeddings=True)
    adapter = run_of(tmp_path, base, targets=("lm_head",))
    merge(adapter, str(base), tmp_path / "merged", "float32")
    whole = plain(tmp_path / "merged")
    assert apart(plain(base, adapter), whole) < 1e-4
    embedding = whole.get_input_embeddings().weight
    assert torch.equal(embedding, plain(base).get_input_embeddings().weight)
    assert not torch.equal(embedding, whole.get_output_embeddings().weight)


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_multimodal_base_keeps_its_other_parts(tmp_path, name):
    skip_where_broken(name)
    base = build(name, tmp_path / "base")
    for file, content in PROCESSOR.items():
        (base / file).write_text(json.dumps(content))
    adapter = run_of(tmp_path, base)
    merge(adapter, str(base), tmp_path / "merged", "float32")
    together = plain(base, adapter)
    assert apart(together, plain(tmp_path / "merged")) < 1e-4
    assert apart(together, plain(base)) > 1e-3
    before = load_file(base / "model.safetensors")
    after = load_file(tmp_path / "merged" / "model.safetensors")
    assert before.keys() == after.keys()
    eyes = [key for key in before if "vision" in key or "visual" in key or "projector" in key]
    assert eyes and all(torch.equal(before[key], after[key]) for key in eyes)
    out = export(ExportJob(adapter, tmp_path / "shared", "chatml", str(base)))
    assert apart(together, plain(base, out)) == 0
    for file, content in PROCESSOR.items():
        assert json.loads((tmp_path / "merged" / file).read_text()) == content
    assert (out / "preprocessor_config.json").is_file()


@pytest.mark.extras
def test_gpt2_in_four_bits_is_merged(tmp_path):
    base = build("gpt2", tmp_path / "base")
    adapter = run_of(tmp_path, base, quantisation=QuantisationConfig(load_in_4bit=True))
    done = merge(adapter, str(base), tmp_path / "merged", "float32")
    assert done.agreement.largest < 1e-3 and done.quantisation == NF4
    assert "transformer.h.0.attn.c_attn.weight" in load_file(tmp_path / "merged/model.safetensors")
    assert plain(tmp_path / "merged")


def dry_run(capsys, model: Path, folder: Path, *flags: str) -> tuple[int, str, str]:
    """Of a short row and one of more than a hundred tokens."""
    rows = write_rows(folder, [("dog?", "the lazy dog"), ("fox?", "over the lazy dog " * 30)])
    capsys.readouterr()  # the bars of writing the model
    command = ["train", "--model", str(model), "--train", str(rows), "--formats", "chatml"]
    code = main([*command, "--output-dir", str(folder / "run"), "--dry-run", *flags])
    found = capsys.readouterr()
    return code, found.out, found.err


@pytest.mark.parametrize("name", ["mamba", "rwkv", "gemma3n_text", "gemma4", "mistral3", "mixtral"])
def test_a_dry_run_names_the_layers_and_needs_no_sizes_of_llama(tmp_path, capsys, name):
    code, out, _ = dry_run(capsys, build(name, tmp_path / "base"), tmp_path)
    assert code == 0 and "LoRA on " in out and "memory on this machine" in out


def test_a_dry_run_refuses_a_name_that_no_layer_has(tiny_model, tmp_path, capsys):
    flags = ("--lora-target-modules", "q_proj", "nonsense")
    code, _, err = dry_run(capsys, tiny_model, tmp_path, *flags)
    assert code == 2 and "no layer is called 'nonsense'" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_row_beyond_the_window_is_refused_and_counted(tmp_path, capsys, name):
    """GPT-2 has a learned position for each place and none beyond. The control is a wide window."""
    size = {"gpt2": "n_positions", "llama": "max_position_embeddings"}[name]
    code, out, _ = dry_run(capsys, build(name, tmp_path / "wide", **{size: 512}), tmp_path)
    assert code == 0 and "refused" not in out and "window: 512" in out
    base = build(name, tmp_path / "narrow", **{size: 80})
    code, out, _ = dry_run(capsys, base, tmp_path)
    assert code == 1 and "and the model reads 80" in out
    assert "1 row refused: 1 longer than the model's window" in out
    config = small_config(base, tmp_path, rows=[("dog?", "the lazy dog"), ("a", "fox " * 200)])
    with pytest.raises(HarnessError, match="the model reads 80"):
        train(config, quiet=True)
    skipping = replace(config, data=replace(config.data, on_refuse="skip"))
    train(skipping, quiet=True)
    assert "longer than the model's window" in capsys.readouterr().err


def test_a_dry_run_refuses_an_encoder_in_one_line(tmp_path, capsys):
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=32, **sizes)
    BertForMaskedLM(config).save_pretrained(tmp_path / "base")
    build_tokenizer().save_pretrained(tmp_path / "base")
    code, _, err = dry_run(capsys, tmp_path / "base", tmp_path)
    assert code == 2 and "not a model that predicts the next token" in err
    assert err.strip().count("\n") == 0
