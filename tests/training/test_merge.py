"""harness merge: the merged model computes what base and adapter computed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli.main import main
from harness.errors import HarnessError
from harness.models import describe_base, load
from harness.models.quantisation import Quantisation
from harness.training.config import AdapterConfig
from harness.training.runs.checkpoints import save_adapter
from harness.training.share.merge import Agreement, compare, merge, probe
from harness.training.step.lora import add_adapter, add_control_tokens
from tests.device import chosen_device
from tests.training.small import NF4, STORED_INT8, STORED_NF4, load_adapted

WEIGHTS = "model.safetensors"
KINDS = {"lora": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True}}


def make_adapter(model, folder, *, stored=None, dtype="float32", formats=(), **settings):
    """An adapter that does something: random factors instead of B = 0."""
    loaded = load(str(model), dtype=dtype, device=chosen_device(), quantisation=stored)
    if formats:
        add_control_tokens(loaded, formats)
    peft = add_adapter(loaded, AdapterConfig(lora_r=4, lora_alpha=8, **settings), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name or "trainable_tokens" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
            if "magnitude" in name:
                factors = 1 + 0.1 * torch.rand(parameter.shape, generator=generator)
                parameter.mul_(factors.to(parameter))
    loaded.model = peft
    save_adapter(peft, folder, describe_base(loaded))
    return folder


def answers(loaded):
    return probe(loaded).softmax(-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "stored",
    [
        None,
        STORED_NF4,
        pytest.param(
            Quantisation(
                load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False
            ),
            marks=pytest.mark.extras,
        ),
    ],
    ids=str,
)
def test_in_float32_the_logits_are_the_same(tiny_model, tmp_path, kind, stored):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = make_adapter(tiny_model, tmp_path / "adapter", stored=stored, **KINDS[kind])
    done = merge(adapter, str(tiny_model), tmp_path / "merged", "float32")
    assert done.agreement.largest < 1e-4 and done.agreement.same_token == 1.0
    with_adapter = load_adapted(tiny_model, adapter, quantisation=stored)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").to(chosen_device())
    assert type(plain.model.layers[0].self_attn.q_proj) is torch.nn.Linear and not hasattr(
        plain.config, "quantization_config"
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == with_adapter.tokenizer.chat_template
    ids = torch.arange(3, 50, device=chosen_device()).unsqueeze(0)
    with torch.no_grad():
        assert torch.allclose(plain(ids).logits, with_adapter.model(ids).logits, atol=1e-4)


@pytest.mark.extras
def test_an_adapter_trained_in_bfloat16_is_compared_in_float32(tiny_model, tmp_path):
    """The codes are those of training, quantised from bfloat16 weights; only the arithmetic is
    finer."""
    adapter = make_adapter(tiny_model, tmp_path / "adapter", stored=NF4, dtype="bfloat16")
    done = merge(adapter, str(tiny_model), tmp_path / "merged", "float32")
    assert done.agreement.largest < 1e-4 and done.dtype == "float32"


@pytest.mark.extras
def test_a_qlora_adapter_goes_into_the_dequantised_base_not_into_the_16_bit_one(
    tiny_model, tmp_path
):
    adapter = make_adapter(tiny_model, tmp_path / "adapter", stored=NF4)
    right = merge(adapter, str(tiny_model), tmp_path / "right", "float32").agreement
    wrong = compare(
        probe(load_adapted(tiny_model, adapter, quantisation=NF4)),
        probe(load_adapted(tiny_model, adapter)),
    )
    assert right.divergence < 1e-6 and wrong.divergence > 100 * right.divergence


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("stored", [None, STORED_NF4, STORED_INT8], ids=str)
def test_they_agree_within_the_dtype(tiny_model, tmp_path, dtype, stored):
    adapter = make_adapter(tiny_model, tmp_path / "adapter", stored=stored, dtype="bfloat16")
    done = merge(adapter, str(tiny_model), tmp_path / "merged", dtype)
    assert done.agreement.divergence < 1e-3
    assert all(
        weight.dtype == getattr(torch, dtype)
        for weight in load(
            str(tmp_path / "merged"), dtype=dtype, device=chosen_device()
        ).model.parameters()
    )


def test_trained_control_tokens_are_merged_with_the_tied_head(tiny_model, tmp_path):
    from harness.formats import load_formats

    adapter = make_adapter(tiny_model, tmp_path / "adapter", formats=[load_formats()["llama3"]])
    merge(adapter, str(tiny_model), tmp_path / "merged", "float32")
    whole = load(str(tmp_path / "merged"), dtype="float32", device=chosen_device())
    parts = load_adapted(tiny_model, adapter)
    new = whole.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    ids = torch.tensor([[5, new, 9, new]], device=chosen_device())
    assert whole.model.get_input_embeddings().weight is whole.model.get_output_embeddings().weight
    with torch.no_grad():
        assert torch.allclose(whole.model(ids).logits, parts.model(ids).logits, atol=1e-4)


@pytest.mark.extras
def test_the_command_says_how_well_it_agrees(tiny_model, tmp_path, capsys):
    adapter = make_adapter(tiny_model, tmp_path / "adapter", stored=NF4)
    assert (
        main(["merge", str(adapter), "--base", str(tiny_model), "--out", str(tmp_path / "merged")])
        == 0
    )
    out = capsys.readouterr().out
    assert (
        "dequantised base that it was trained on: nf4+double" in out
        and "mean KL divergence" in out
        and "same most likely token at" in out
    )
    assert (
        main(["merge", str(adapter), "--base", str(tiny_model), "--out", str(tmp_path / "merged")])
        == 2
    )
    assert "exists already" in capsys.readouterr().err


def test_a_result_that_disagrees_is_not_written(tiny_model, tmp_path, monkeypatch):
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    monkeypatch.setattr(
        "harness.training.share.merge._merged_weight",
        lambda layer: layer.get_base_layer().weight.float(),
    )
    with pytest.raises(HarnessError, match="disagrees"):
        merge(adapter, str(tiny_model), tmp_path / "merged", "float32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


@pytest.mark.parametrize(
    ("dtype", "allowed"), [("float32", 1e-5), ("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_each_dtype_may_differ_as_far_as_its_rounding_goes(
    tiny_model, tmp_path, monkeypatch, dtype, allowed
):
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    found = Agreement(0.9 * allowed, 1.0, 1.0, 1)
    monkeypatch.setattr("harness.training.share.merge.compare", lambda *_: found)
    merge(adapter, str(tiny_model), tmp_path / "near", dtype)
    found = replace(found, divergence=1.1 * allowed)
    with pytest.raises(HarnessError, match=f"{allowed:g} allowed in {dtype}"):
        merge(adapter, str(tiny_model), tmp_path / "far", dtype)


def test_another_base_is_refused(tiny_model, tmp_path):
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    facts = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps({**facts, "extra": 1}))
    with pytest.raises(HarnessError, match="was trained on"):
        merge(adapter, str(other), tmp_path / "merged", "float32")
    assert not (tmp_path / "merged").exists()


def test_a_disk_that_takes_no_more_leaves_nothing(tiny_model, tmp_path):
    """The limit on a file's size stands in for a full disk: the write itself fails, inside
    safetensors."""
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "from harness.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [
        "merge",
        str(adapter),
        "--base",
        str(tiny_model),
        "--out",
        str(tmp_path / "merged"),
        "--dtype",
        "float32",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "cannot write" in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


@pytest.mark.parametrize("broken", ["adapter", "base"])
def test_a_nan_is_not_merged(tiny_model, tmp_path, broken):
    """``divergence > allowed`` would let it pass: a comparison with NaN is false."""
    adapter, base = make_adapter(tiny_model, tmp_path / "adapter"), tmp_path / "base"
    shutil.copytree(tiny_model, base)
    file = adapter / "adapter_model.safetensors" if broken == "adapter" else base / WEIGHTS
    tensors = load_file(file)
    name = next(name for name in tensors if "lora_A" in name or "down_proj" in name)
    tensors[name][0, 0] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    (adapter / "base.json").unlink()  # the changed base has another digest
    with pytest.raises(HarnessError, match="NaN or infinite") as caught:
        merge(adapter, str(base), tmp_path / "merged", "float32")
    assert ("base and adapter" in caught.value.message) and not (tmp_path / "merged").exists()


def test_logits_that_are_not_numbers_are_no_agreement(tiny_model, tmp_path, monkeypatch):
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    nothing = Agreement(float("nan"), float("nan"), 0.0, 1)
    monkeypatch.setattr("harness.training.share.merge.compare", lambda *_: nothing)
    with pytest.raises(HarnessError, match="the merged model disagrees"):
        merge(adapter, str(tiny_model), tmp_path / "merged", "float32")
    assert not (tmp_path / "merged").exists()
