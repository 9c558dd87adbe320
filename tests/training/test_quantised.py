"""QLoRA on the CPU: against plain peft, against itself interrupted, and after a measurement."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig

from harness.backends.local.backend import TransformersBackend
from harness.errors import HarnessError
from harness.models import load
from harness.models.quantisation import Quantisation, choose_storage, dequantised, is_quantised
from harness.training.config import QuantisationConfig
from harness.training.start import train
from tests.device import chosen_device
from tests.training.interrupted import assert_ends_like_uninterrupted
from tests.training.small import (
    INT8,
    NF4,
    assert_every_element_moves,
    load_adapted,
    make_trainer,
    small_config,
    weights_of,
)

pytestmark = pytest.mark.extras
IDS = torch.arange(3, 40, device=chosen_device()).unsqueeze(0)


def linears(model):
    return {name: module for name, module in model.named_modules() if is_quantised(module)}


def test_the_linear_layers_take_a_quarter_of_16_bits(tiny_model):
    whole = load(str(tiny_model), dtype="bfloat16", device=chosen_device()).model
    layers = linears(
        load(str(tiny_model), dtype="bfloat16", device=chosen_device(), quantisation=NF4).model
    )
    assert len(layers) == 14
    plain = sum(whole.get_submodule(name).weight.nbytes for name in layers)
    stored = sum(
        m.weight.nbytes
        + m.weight.quant_state.absmax.nbytes
        + m.weight.quant_state.state2.absmax.nbytes
        for m in layers.values()
    )
    assert 0.25 < stored / plain < 0.27
    assert all(
        m.weight.dtype == torch.uint8
        and m.weight.quant_state.quant_type == "nf4"
        and m.weight.quant_state.nested
        for m in layers.values()
    )


def test_weights_equal_plain_transformers_and_peft_on_nf4(tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    ours = make_trainer(small_config(tiny_model, tmp_path), NF4)
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    base = AutoModelForCausalLM.from_pretrained(
        tiny_model,
        quantization_config=settings,
        dtype=torch.float32,
        device_map={"": chosen_device()},
    )
    theirs = get_peft_model(
        base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights_of(ours)[name])
    theirs.train()
    optimizer = torch.optim.AdamW(
        [p for n, p in sorted(theirs.named_parameters()) if p.requires_grad], weight_decay=0.0
    )
    for number in range(8):
        log = ours.step(number, 0.0)
        optimizer.param_groups[0]["lr"] = log.learning_rate
        optimizer.zero_grad()
        examples = [ours.cache(pair) for pair in ours.plan.step(number)]
        count = sum(sum(e.encoded.trained[1:]) for e in examples)
        total = 0.0
        for example in examples:
            encoded = example.encoded
            labels = torch.tensor(
                [[id if t else -100 for id, t in zip(encoded.ids, encoded.trained, strict=True)]],
                device=chosen_device(),
            )
            loss = (
                theirs(
                    input_ids=torch.tensor([encoded.ids], device=chosen_device()), labels=labels
                ).loss
                * sum(encoded.trained[1:])
                / count
            )
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_([p for p in theirs.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        assert log.loss == pytest.approx(total, abs=1e-5)
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            assert torch.allclose(parameter, weights_of(ours)[name], atol=1e-5), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_element_moves_at_1e_7_on_nf4(tiny_model, tmp_path, dtype):
    constant = {"lr_scheduler_type": "constant", "warmup_ratio": 0.0}
    steps = {"learning_rate": 1e-7, "num_train_epochs": 25}
    trainer = make_trainer(
        small_config(tiny_model, tmp_path, dtype=dtype, optimisation=steps, schedule=constant), NF4
    )
    assert_every_element_moves(trainer)


@pytest.mark.parametrize(
    ("stored", "adapter"),
    [
        (NF4, {}),
        (INT8, {}),
        (NF4, {"use_dora": True}),
        (NF4, {"use_rslora": True, "lora_dropout": 0.05}),
    ],
)
def test_the_loss_falls(tiny_model, tmp_path, stored, adapter):
    trainer = make_trainer(
        small_config(
            tiny_model,
            tmp_path,
            dtype="bfloat16",
            adapter=adapter,
            optimisation={"num_train_epochs": 10},
        ),
        stored,
    )
    losses = [trainer.step(number, 0.0).loss for number in range(trainer.plan.total_steps)]
    assert sum(losses[-4:]) < 0.93 * sum(losses[:4])


def test_measuring_in_the_middle_of_a_run_changes_nothing(tiny_model, tmp_path):
    """On a CPU with AVX512_BF16 bitsandbytes would pack the weights for good at the first pass
    without gradients."""
    config = small_config(tiny_model, tmp_path)
    plain, measured = make_trainer(config, NF4), make_trainer(config, NF4)
    before = dequantised(next(iter(linears(measured.loaded.model).values()))).clone()
    for number in range(4):
        plain.step(number, 0.0)
        measured.step(number, 0.0)
        measured.model.eval()
        with measured.loaded.inference():
            measured.model(input_ids=IDS)
    assert torch.equal(before, dequantised(next(iter(linears(measured.loaded.model).values()))))
    for name, weight in weights_of(plain).items():
        assert torch.equal(weight, weights_of(measured)[name]), name


@pytest.mark.parametrize(
    ("formats", "adapter", "optim"),
    [
        (("chatml",), {}, "adamw_torch"),
        (
            ("llama3", "gemma"),
            {"train_control_tokens": True, "use_dora": True, "lora_dropout": 0.1},
            "adamw_8bit",
        ),
    ],
    ids=["lora", "dora, control tokens, dropout, 8-bit moments"],
)
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    tiny_model, tmp_path, monkeypatch, formats, adapter, optim
):
    stored = QuantisationConfig(load_in_4bit=True)
    config = small_config(
        tiny_model,
        tmp_path,
        quantisation=stored,
        dtype="bfloat16",
        formats=formats,
        adapter=adapter,
        optimisation={"optim": optim},
    )
    assert_ends_like_uninterrupted(config, tmp_path, monkeypatch, stop_at=4)


def test_the_adapter_remembers_its_base_and_the_fingerprint_names_it(tiny_model, tmp_path):
    config = small_config(
        tiny_model,
        tmp_path,
        quantisation=QuantisationConfig(load_in_4bit=True, bnb_4bit_use_double_quant=False),
    )
    adapter = train(config, quiet=True)
    noted = json.loads((adapter / "base.json").read_text())
    assert (
        noted["quantisation"]["load_in_4bit"]
        and not noted["quantisation"]["bnb_4bit_use_double_quant"]
        and noted["dtype"] == "float32"
    )
    stored = TransformersBackend(load_adapted(tiny_model, adapter, quantisation=NF4)).fingerprint
    plain = TransformersBackend(load_adapted(tiny_model, adapter)).fingerprint
    assert stored.pop("quantisation") == "nf4+double"
    assert (stored.pop("engine"), plain.pop("engine")) == ("modules", "fast")
    assert stored == plain


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (Quantisation(load_in_4bit=True, load_in_8bit=True), "exclude"),
        (NF4, "does not know the device 'xla'"),
    ],
)
def test_what_cannot_be_had_is_told(stored, says):
    with pytest.raises(HarnessError, match=says):
        choose_storage(LlamaConfig(), stored, "xla", "float32", "")


def test_a_base_that_is_quantised_already_is_told():
    config = LlamaConfig(quantization_config={"quant_method": "gptq"})
    with pytest.raises(HarnessError, match=r"quantised already \(gptq\)"):
        choose_storage(config, NF4, "cpu", "float32", "")


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setattr("harness.extras.find_spec", lambda name: None)
    with pytest.raises(HarnessError, match="needs bitsandbytes"):
        choose_storage(LlamaConfig(), NF4, "cpu", "float32", "")


def test_dora_on_eight_bits_is_refused(tiny_model, tmp_path):
    with pytest.raises(HarnessError, match="use_dora"):
        make_trainer(small_config(tiny_model, tmp_path, adapter={"use_dora": True}), INT8)


def test_the_terminal_stays_clean(tiny_model):
    code = (
        "import sys, torch; from harness.models import load; from harness.models.quantisation import Quantisation\n"
        "for stored in (Quantisation(load_in_4bit=True), Quantisation(load_in_8bit=True)):\n"
        "    loaded = load(sys.argv[1], dtype='bfloat16', device='cpu', quantisation=stored)\n"
        "    with loaded.inference(): loaded.model(input_ids=torch.arange(3, 40).unsqueeze(0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_model)], capture_output=True, text=True, check=True
    )
    assert done.stdout == done.stderr == ""
