"""Folders whose weights are quantised in their files: the right numbers, or a clear no."""

from __future__ import annotations

import json
import shutil

import pytest

from harness.errors import HarnessError
from harness.models import load
from harness.models.quantisation import Quantisation, is_quantised
from tests.device import chosen_device


@pytest.fixture(autouse=True)
def compared_to_the_last_weight(monkeypatch):
    """Packed weights are not taken for a configuration that describes too many."""
    monkeypatch.setattr("harness.models.completeness._FEW_WEIGHTS", 0)


def header(folder, **settings):
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(facts | {"quantization_config": settings}))


def rewrite(folder, change):
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def logits(model):
    import torch

    return model(input_ids=torch.arange(3, 60, device=model.device).reshape(1, -1)).logits


@pytest.mark.parametrize("block", [[128, 128], [32, 64]])
def test_fp8_is_dequantised_to_what_its_blocks_mean(tiny_model, tmp_path, block):
    """The same numbers as a plain folder with (weight in FP8) × scale."""
    import torch

    stored = shutil.copytree(tiny_model, tmp_path / "stored")
    plain = shutil.copytree(tiny_model, tmp_path / "plain")
    whole = {}

    def quantise(tensors):
        done = {}
        for name, weight in tensors.items():
            done[name] = weight
            if "proj" not in name:
                continue
            rows, columns = (
                min(step, size) for step, size in zip(block, weight.shape, strict=True)
            )
            parts = weight.reshape(
                weight.shape[0] // rows, rows, weight.shape[1] // columns, columns
            )
            scale = parts.abs().amax((1, 3)) / 448
            codes = (parts / scale[:, None, :, None]).to(torch.float8_e4m3fn)
            done[name] = codes.reshape(weight.shape)
            done[f"{name}_scale_inv"] = scale
            whole[name] = (codes.float() * scale[:, None, :, None]).reshape(weight.shape)
        return done

    rewrite(stored, quantise)
    rewrite(plain, lambda tensors: tensors | whole)
    header(stored, quant_method="fp8", activation_scheme="dynamic", weight_block_size=block)
    loaded = load(str(stored), dtype="float32", device=chosen_device())
    assert loaded.stored_as == "fp8"
    expected = load(str(plain), dtype="float32", device=chosen_device())
    with torch.inference_mode():
        assert torch.allclose(logits(loaded.model), logits(expected.model), atol=1e-6)
        unquantised = load(str(tiny_model), dtype="float32", device=chosen_device()).model
        assert not torch.allclose(logits(loaded.model), logits(unquantised), atol=1e-4)
    loaded.model.save_pretrained(tmp_path / "again")
    loaded.tokenizer.save_pretrained(tmp_path / "again")
    again = load(str(tmp_path / "again"), dtype="float32", device=chosen_device())
    assert again.stored_as == "", "merging writes plain weights"
    with torch.inference_mode():
        assert torch.equal(logits(again.model), logits(loaded.model))


def test_fp8_whose_last_block_is_a_part_is_refused(tiny_model, tmp_path):
    """64 rows in blocks of 48: transformers would take two blocks of 32."""
    import torch

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    name = "model.layers.0.self_attn.q_proj.weight"
    rewrite(
        folder,
        lambda tensors: (
            tensors
            | {
                name: tensors[name].to(torch.float8_e4m3fn),
                f"{name}_scale_inv": torch.ones(2, 1),
            }
        ),
    )
    header(folder, quant_method="fp8", activation_scheme="dynamic", weight_block_size=[48, 64])
    with pytest.raises(HarnessError, match=r"blocks of \[48, 64\] do not divide \[64, 64\]"):
        load(str(folder), dtype="float32", device=chosen_device())


def test_mxfp4_is_dequantised_to_what_its_codes_mean(tmp_path):
    """gpt-oss: experts of four-bit codes with a power of two for each 32."""
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    from tests.tiny import build_tokenizer

    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=376,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        eos_token_id=2,
        pad_token_id=2,
    )
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    model = GptOssForCausalLM(config)
    for folder in ("plain", "stored"):
        build_tokenizer().save_pretrained(tmp_path / folder)
    codes = {}
    for name, weight in model.state_dict().items():
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, inputs, outputs = weight.shape
            code = torch.randint(16, (experts, outputs, inputs // 32, 32))
            power = torch.randint(120, 124, (experts, outputs, inputs // 32))
            whole = values[code] * 2.0 ** (power[..., None] - 127)
            weight.copy_(whole.reshape(experts, outputs, inputs).transpose(1, 2))
            codes[f"{name}_blocks"] = (code[..., 0::2] + 16 * code[..., 1::2]).to(torch.uint8)
            codes[f"{name}_scales"] = power.to(torch.uint8)
    model.save_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "stored")
    rewrite(
        tmp_path / "stored",
        lambda tensors: {k: v for k, v in tensors.items() if f"{k}_blocks" not in codes} | codes,
    )
    header(tmp_path / "stored", quant_method="mxfp4", modules_to_not_convert=["lm_head"])
    stored = load(str(tmp_path / "stored"), dtype="float32", device=chosen_device())
    plain = load(str(tmp_path / "plain"), dtype="float32", device=chosen_device())
    assert (stored.stored_as, plain.stored_as) == ("mxfp4", "")
    with torch.inference_mode():
        assert torch.allclose(logits(stored.model), logits(plain.model), atol=1e-6)


@pytest.mark.parametrize(
    "asked", [Quantisation(load_in_4bit=True), Quantisation(load_in_8bit=True)]
)
def test_a_second_quantisation_is_refused(tiny_model, tmp_path, asked):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    header(folder, quant_method="fp8")
    with pytest.raises(HarnessError, match=r"quantised already \(fp8\)"):
        load(str(folder), dtype="float32", device=chosen_device(), quantisation=asked)


def test_a_missing_library_is_named(tiny_model, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    header(folder, quant_method="bitsandbytes", load_in_4bit=True)
    monkeypatch.setattr("harness.extras.is_installed", lambda name: name != "bitsandbytes")
    with pytest.raises(
        HarnessError, match=r"needs bitsandbytes .* pip install 'formatproof\[qlora\]"
    ):
        load(str(folder), dtype="float32", device=chosen_device())


@pytest.mark.extras
@pytest.mark.parametrize("compute", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "kind",
    [
        Quantisation(load_in_4bit=True),
        Quantisation(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False),
        Quantisation(load_in_8bit=True),
    ],
    ids=str,
)
def test_a_folder_saved_by_bitsandbytes_equals_transformers(
    tiny_model, tmp_path, kind, dtype, compute
):
    """Before and after a measurement, and gradients reach the lowest layer.

    The plain model computes in our dtype and with gradients, so that bitsandbytes does not repack
    its weights (harness.models.quantisation).
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    whole = {"dtype": getattr(torch, dtype), "device_map": {"": chosen_device()}}

    def settings(name):
        return BitsAndBytesConfig(**kind.as_dict(), bnb_4bit_compute_dtype=getattr(torch, name))

    saved = AutoModelForCausalLM.from_pretrained(
        tiny_model, quantization_config=settings(compute), **whole
    )
    saved.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text())
    facts["quantization_config"]["bnb_4bit_compute_dtype"] = dtype
    plain_folder = shutil.copytree(tmp_path, tmp_path / "plain")
    (plain_folder / "config.json").write_text(json.dumps(facts))
    plain = AutoModelForCausalLM.from_pretrained(plain_folder, **whole).eval()
    expected = logits(plain).detach().float()

    loaded = load(str(tmp_path), dtype=dtype, device=chosen_device())
    assert str(loaded.quantisation) == str(kind)
    assert sum(is_quantised(module) for module in loaded.model.modules()) == 14
    for _ in range(2):
        with loaded.inference():
            assert torch.allclose(logits(loaded.model).float(), expected, atol=1e-5)
    embeddings = loaded.model.get_input_embeddings().weight.requires_grad_()
    logits(loaded.model).float().square().mean().backward()
    plain.get_input_embeddings().weight.requires_grad_()
    logits(plain).float().square().mean().backward()
    theirs = float(plain.get_input_embeddings().weight.grad.norm())
    assert float(embeddings.grad.norm()) == pytest.approx(theirs, rel=1e-3)


@pytest.mark.extras
def test_an_adapter_on_a_folder_saved_by_bitsandbytes_merges(tiny_model, tmp_path):
    """The adapter remembers how its base was stored, which is no second quantisation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    from harness.training.share.merge import merge
    from harness.training.start import train
    from tests.training.small import small_config

    kind = Quantisation(load_in_4bit=True)
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(
        tiny_model,
        quantization_config=BitsAndBytesConfig(**kind.as_dict()),
        dtype=torch.float32,
        device_map={"": chosen_device()},
    ).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(base)
    adapter = train(small_config(base, tmp_path), quiet=True)
    merged = merge(adapter, str(base), tmp_path / "merged", "float32")
    assert merged.quantisation == kind
    assert (
        load(str(tmp_path / "merged"), dtype="float32", device=chosen_device()).quantisation
        == Quantisation()
    )
