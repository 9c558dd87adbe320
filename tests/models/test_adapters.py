"""Adapters on a loaded base: all weights of both sides match, or the adapter is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.models import load
from harness.models.adapters import base_only
from tests import multimodal
from tests.device import chosen_device
from tests.factors import stir_factors
from tests.tiny import build_model, build_tokenizer

FILE = "adapter_model.safetensors"


def on(model: Path, adapter: Path):
    return load(str(model), adapter=str(adapter), dtype="float32", device=chosen_device())


def save(model, folder: Path, **settings) -> Path:
    """An adapter of noise on a model, as peft saves it."""
    from peft import LoraConfig, get_peft_model

    usual = {"r": 2, "target_modules": ["q_proj", "v_proj"]}
    adapted = get_peft_model(model, LoraConfig(**usual | settings))
    stir_factors(adapted)
    adapted.save_pretrained(folder)
    return folder


def bare(model: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model).to(chosen_device())


@pytest.fixture
def adapter(tiny_model, tmp_path):
    return save(bare(tiny_model), tmp_path / "adapter", task_type="CAUSAL_LM")


def tensors(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / FILE)), folder / FILE, metadata={"format": "pt"})


def settings(folder: Path, **changes) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("task", ["CAUSAL_LM", None])
def test_a_whole_adapter_equals_peft(tiny_model, adapter, task):
    import torch
    from peft import PeftModel

    settings(adapter, task_type=task)
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    with torch.inference_mode():
        expected = PeftModel.from_pretrained(bare(tiny_model), adapter).eval()(input_ids=ids).logits
        found = on(tiny_model, adapter).model(input_ids=ids).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, bare(tiny_model)(ids).logits, atol=1e-3)


def test_a_folder_that_is_no_adapter_is_reported(tiny_model, tmp_path):
    with pytest.raises(HarnessError, match=r"no adapter_config\.json"):
        on(tiny_model, tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda all_: {key.replace("layers", "blocks"): value for key, value in all_.items()},
            r"has weights for layers that the model lacks: model\.blocks\.0\.self_attn\.q_proj\.lora_A"
            r"\.weight, .*8 in all\), and it has no weights for model\.layers\.0\..*8 in all",
        ),
        (
            lambda all_: {key: value for key, value in all_.items() if "layers.1" not in key},
            r"it has no weights for model\.layers\.1\.self_attn\.q_proj\.lora_A\.weight, .*4 in all",
        ),
        (
            lambda all_: {key: value for key, value in all_.items() if "lora_B" not in key},
            r"it has no weights for model\.layers\.0\.self_attn\.q_proj\.lora_B\.weight, .*4 in all",
        ),
        (
            lambda all_: (
                all_
                | {
                    key.replace("layers.1", "layers.2"): value.clone()
                    for key, value in all_.items()
                    if "layers.1" in key
                }
            ),
            r"has weights for layers that the model lacks: model\.layers\.2.*4 in all\) —",
        ),
        (
            lambda all_: {key: value[..., :1].contiguous() for key, value in all_.items()},
            r"or is damaged: .*size mismatch for .*lora_A",
        ),
    ],
    ids=["renamed", "a layer less", "half of the factors", "a layer more", "shapes"],
)
def test_weights_that_do_not_match_are_refused_by_name(tiny_model, adapter, change, expected):
    tensors(adapter, change)
    with pytest.raises(HarnessError, match=expected):
        on(tiny_model, adapter)


def test_an_adapter_of_another_architecture_is_refused(tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=400, n_embd=64, n_layer=2, n_head=4)
    other = AutoModelForCausalLM.from_config(config)
    save(other, tmp_path / "a", target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(HarnessError, match=r"does not fit .*c_attn"):
        on(tiny_model, tmp_path / "a")


def test_an_adapter_of_a_deeper_model_is_refused(tiny_model, tmp_path):
    build_model(tmp_path / "deep", num_hidden_layers=3)
    save(bare(tmp_path / "deep"), tmp_path / "a")
    with pytest.raises(HarnessError, match=r"layers that the model lacks: model\.layers\.2"):
        on(tiny_model, tmp_path / "a")


@pytest.mark.filterwarnings("ignore:.*save_embedding_layers.*")
@pytest.mark.parametrize("kind", ["gemma3", "mistral3", "qwen3_5", "llama4"])
def test_an_adapter_of_the_text_model_alone_fits_the_whole_one(kind, tmp_path):
    """The decoder has another name there, and the tower's layers have the same last names."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    multimodal.build(kind, tmp_path / "whole")
    whole = load(str(tmp_path / "whole"), dtype="float32", device=chosen_device())
    config = whole.model.config.get_text_config()
    text = AutoModelForCausalLM.from_config(config).float().eval().to(chosen_device())
    inside = whole.model.get_decoder()
    text.model.load_state_dict(getattr(inside, "model", inside).state_dict())
    text.lm_head.load_state_dict(whole.model.get_output_embeddings().state_dict())
    ids = torch.arange(3, 60, device=chosen_device()).reshape(1, -1)
    with torch.inference_mode():
        assert torch.equal(text(input_ids=ids).logits, whole.model(input_ids=ids).logits)
        plain = whole.model(input_ids=ids).logits
    head = [] if whole.model.config.tie_word_embeddings else ["lm_head"]  # peft warns of a tied one
    save(copy.deepcopy(text), tmp_path / "a", target_modules=["q_proj", "v_proj", *head])
    adapted = on(tmp_path / "whole", tmp_path / "a").model
    factors = [name for name, _ in adapted.named_parameters() if "lora_A" in name]
    assert not [name for name in factors if "vis" in name]
    assert any("lm_head" in name for name in factors) == bool(head)
    with torch.inference_mode():
        expected = PeftModel.from_pretrained(text, tmp_path / "a").eval()(input_ids=ids).logits
        assert torch.allclose(adapted(input_ids=ids).logits, expected, atol=1e-5)
        assert not torch.allclose(expected, plain, atol=1e-3)


def test_an_adapter_of_a_whole_model_is_refused_on_the_text_model(tmp_path):
    from transformers import AutoModelForCausalLM

    multimodal.build("gemma3", tmp_path / "whole")
    save(
        load(str(tmp_path / "whole"), dtype="float32", device=chosen_device()).model, tmp_path / "a"
    )
    text = AutoModelForCausalLM.from_config(multimodal.config("gemma3").text_config)
    text.save_pretrained(tmp_path / "text")
    build_tokenizer().save_pretrained(tmp_path / "text")
    with pytest.raises(HarnessError, match=r"does not fit text: it has weights .* model\.language"):
        on(tmp_path / "text", tmp_path / "a")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda f: (f / FILE).write_bytes((f / FILE).read_bytes()[:-9]),
            f"{FILE}: the file is cut",
        ),
        (lambda f: (f / FILE).write_bytes(b""), f"{FILE}: empty"),
        (
            lambda f: (f / FILE).write_text("version https://git-lfs.github.com/spec/v1\n"),
            f"{FILE}: a pointer of Git LFS",
        ),
        (lambda f: (f / FILE).write_text("x" * 99), f"{FILE}: not a safetensors file"),
        (
            lambda f: (f / "adapter_config.json").write_text("{"),
            r"adapter_config\.json:1: not JSON",
        ),
        (
            lambda f: (f / "adapter_config.json").write_text("{}"),
            r"adapter_config\.json: peft knows no peft_type None",
        ),
        (lambda f: settings(f, peft_type="NEVER"), "knows no peft_type 'NEVER'"),
        (lambda f: settings(f, task_type="SEQ_CLS"), "trained for SEQ_CLS, not for CAUSAL_LM"),
        (lambda f: settings(f, init_lora_weights="pissa_niter_4"), "initialised by pissa_niter_4"),
        (
            lambda f: (f / "adapter_config.json").write_text(
                '{"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}'
            ),
            "PREFIX_TUNING adapters, which put vectors before the prompt",
        ),
    ],
    ids=["cut", "empty", "LFS", "text", "JSON", "no type", "unknown", "task", "pissa", "prefix"],
)
def test_a_damaged_or_other_adapter_is_refused(tiny_model, adapter, damage, expected):
    damage(adapter)
    with pytest.raises(HarnessError, match=expected):
        on(tiny_model, adapter)


def test_a_refused_adapter_leaves_no_traceback_in_the_commands(
    tiny_model, adapter, capsys, tmp_path
):
    from harness.cli.main import main

    tensors(
        adapter, lambda all_: {key: value for key, value in all_.items() if "lora_B" not in key}
    )
    for command in (
        [
            "eval",
            str(tiny_model),
            "--adapter",
            str(adapter),
            "--limit",
            "1",
            "--out",
            str(tmp_path / "o"),
        ],
        ["merge", str(adapter), "--base", str(tiny_model), "--out", str(tmp_path / "merged")],
    ):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert "has no weights for" in err
        assert len(err.strip().splitlines()) == 1


def test_an_adapter_without_a_head_of_its_own_leaves_the_base_as_it_was(tiny_model, adapter):
    """Taking it off gives the base's numbers again."""
    import torch

    from harness.models import remove_adapter

    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    loaded = on(tiny_model, adapter)
    remove_adapter(loaded)
    with torch.inference_mode():
        assert torch.equal(loaded.model(ids).logits, bare(tiny_model).eval()(ids).logits)


@pytest.mark.parametrize(
    "damage", [{"r": 10**9}, {"rank_pattern": {"q_proj": 10**9}}], ids=["r", "rank_pattern"]
)
def test_a_rank_that_no_tensor_has_is_refused_before_memory_is_taken(tiny_model, adapter, damage):
    settings(adapter, **damage)
    expected = "the rank is 1,000,000,000, and the largest size of a tensor is"
    with pytest.raises(HarnessError, match=expected) as caught:
        on(tiny_model, adapter)
    assert "adapter_config.json is damaged" in str(caught.value)


def test_a_rank_as_large_as_the_layer_is_loaded(tiny_model, tmp_path):
    folder = save(bare(tiny_model), tmp_path / "wide", r=64)
    assert on(tiny_model, folder).adapter == str(folder)


def test_the_adapter_is_on_again_after_an_error_below_it(tiny_model, adapter):
    import torch

    loaded = on(tiny_model, adapter)
    ids = torch.arange(3, 40, device=chosen_device()).reshape(1, -1)
    with torch.inference_mode():
        before = loaded.model(input_ids=ids).logits
        loaded.model.train()
        with pytest.raises(ZeroDivisionError), base_only(loaded):
            off = loaded.model(input_ids=ids).logits
            assert not loaded.model.training
            raise ZeroDivisionError
        assert loaded.model.training
        assert torch.equal(loaded.model.eval()(input_ids=ids).logits, before)
    assert not torch.allclose(off, before, atol=1e-3)
