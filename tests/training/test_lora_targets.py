"""Which weights get LoRA factors, architecture by architecture, and that the estimate counts them."""

from __future__ import annotations

import pytest
import torch

from harness.errors import HarnessError
from harness.models import LoadedModel, ModelSource
from harness.models.architecture import pick_class
from harness.training.config import AdapterConfig
from harness.training.plan.memory_estimate import shape_from
from harness.training.step.lora import add_adapter
from harness.training.step.lora_targets import find_targets
from tests.tiny import build_tokenizer
from tests.training.architectures import make_config

ATTENTION = {f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
MLP = {f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")}
EXPERTS = {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}
MLA = {
    f"self_attn.{name}"
    for name in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
}
#: Architecture → the kinds of weights of "all-linear".
EXPECTED = {
    "llama": ATTENTION | MLP,
    "gpt2": {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
    "mixtral": ATTENTION,
    "qwen2_moe": ATTENTION
    | {f"mlp.shared_expert.{name}" for name in ("gate_proj", "up_proj", "down_proj")},
    "qwen3_moe": ATTENTION,
    "olmoe": ATTENTION,
    "deepseek_v3": MLA,
    "glm4_moe": ATTENTION,
    "gpt_oss": ATTENTION,
    "granitemoe": ATTENTION,
    "llama4_text": ATTENTION
    | {f"feed_forward.{name}" for name in ("gate_proj", "up_proj", "down_proj")}
    | {f"feed_forward.shared_expert.{name}" for name in ("gate_proj", "up_proj", "down_proj")},
    "bloom": {"self_attention.query_key_value", "self_attention.dense"}
    | {"mlp.dense_h_to_4h", "mlp.dense_4h_to_h"},
    "modernbert-decoder": {f"attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "Wo")}
    | {"mlp.Wi", "mlp.Wo"},
    "git": {f"attention.self.{name}" for name in ("query", "key", "value")}
    | {"attention.output.dense", "intermediate.dense", "output.dense"},
    "mamba": {"mixer.in_proj"},
    "rwkv": {f"attention.{name}" for name in ("key", "value", "receptance", "output")}
    | {f"feed_forward.{name}" for name in ("key", "receptance", "value")},
    "falcon_h1": ATTENTION
    | {"mamba.in_proj"}
    | {f"feed_forward.{name}" for name in ("gate_proj", "up_proj", "down_proj")},
    "gemma3": ATTENTION | MLP,
    "mistral3": ATTENTION | MLP,
    "llama4": ATTENTION
    | {f"feed_forward.{name}" for name in ("gate_proj", "up_proj", "down_proj")}
    | {f"feed_forward.shared_expert.{name}" for name in ("gate_proj", "up_proj", "down_proj")},
}


def on_meta(name, **changes):
    config = make_config(name, **changes)
    with torch.device("meta"):
        return pick_class(config, name).from_config(config)


def load_made(model):
    source = ModelSource("made", "made", None, "sha256:0")
    return LoadedModel(source, model, build_tokenizer(), "float32", "cpu")


def suffixes(targets):
    return {target.suffix for target in targets}


def excluded(found):
    return {target.suffix: target.excluded for target in found.others}


@pytest.mark.parametrize("name", EXPECTED)
def test_all_linear_is_the_text_decoder(name):
    found = find_targets(on_meta(name), AdapterConfig())
    assert suffixes(found.chosen) == EXPECTED[name]
    assert not any(
        "vision" in target.name or "expert" in target.suffix.split(".") for target in found.chosen
    )


@pytest.mark.parametrize(
    ("name", "weight", "reason"),
    [
        ("llama", "lm_head", "output embedding"),
        ("qwen2_moe", "mlp.shared_expert_gate", "router"),
        ("llama4_text", "feed_forward.router", "Llama4Router is not a plain product"),
        ("gemma3n_text", "altup.modality_router", "router"),
        ("mixtral", "mlp.experts.down_proj", "experts"),
        ("mamba", "mixer.out_proj", "transformers reads their weights past an adapter"),
        ("gemma3", "mlp.fc1", "outside the text decoder"),
        ("deepseek_v3", "mlp.down_proj", "peft takes these names for the experts'"),
    ],
)
def test_what_is_left_out_has_a_reason(name, weight, reason):
    """Planted: a router, a vision tower, experts, a layer whose weight is read directly."""
    found = find_targets(on_meta(name), AdapterConfig())
    assert excluded(found)[weight] == reason
    assert any(line.startswith(f"no LoRA ({reason})") and weight in line for line in found.lines())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in (*EXPECTED, "gemma4", "gemma3n_text", "qwen3_5", "qwen3_next")),
        ("llama", {"use_dora": True}),
        ("llama", {"use_rslora": True}),
        ("llama", {"lora_dropout": 0.1}),
        ("gpt2", {"use_dora": True}),
    ],
    ids=str,
)
def test_the_estimate_counts_the_weights_that_are_trained(name, settings):
    """What peft makes trainable is the reference."""
    config = AdapterConfig(lora_r=3, **settings)
    counted, _ = shape_from(
        make_config(name), pick_class(make_config(name), name), config, quantised=False
    )
    model = add_adapter(load_made(on_meta(name)), config, 0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    dora = config.use_dora
    assert sum(target.factors(3, dora=dora) for target in counted.adapted) == sum(
        parameter.numel() for parameter in trained
    )
    whole = sum(parameter.numel() for parameter in on_meta(name).parameters())
    assert counted.linear_weights + counted.other_weights == whole


@pytest.mark.parametrize(
    ("name", "targets", "kinds"),
    [
        ("mixtral", ("experts",), EXPERTS),
        ("mixtral", ("all-linear", "experts"), ATTENTION | EXPERTS),
        ("mixtral", ("q_proj", "experts.down_proj"), {"self_attn.q_proj", "mlp.experts.down_proj"}),
        ("gpt_oss", "experts", EXPERTS),
        ("granitemoe", ("gate_up_proj",), {"block_sparse_moe.experts.gate_up_proj"}),
        (
            "deepseek_v3",
            ("shared_experts",),
            {f"mlp.shared_experts.{n}_proj" for n in ("gate", "up", "down")},
        ),
        ("llama", ("lm_head", "v_proj"), {"lm_head", "self_attn.v_proj"}),
        ("gemma3", ("q_proj",), {"self_attn.q_proj"}),
        ("qwen2_moe", ("shared_expert_gate",), {"mlp.shared_expert_gate"}),
    ],
)
def test_names_choose_layers_and_the_estimate_counts_them(name, targets, kinds):
    config = AdapterConfig(lora_r=2, lora_target_modules=targets)
    found = find_targets(on_meta(name), config)
    assert suffixes(found.chosen) == kinds
    model = add_adapter(load_made(on_meta(name)), config, 0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(target.factors(2) for target in found.chosen) == trained


def test_a_name_that_text_and_vision_share_means_the_text():
    found = find_targets(on_meta("gemma3"), AdapterConfig(lora_target_modules=("q_proj",)))
    assert all("language_model" in target.name for target in found.chosen)
    tower = find_targets(on_meta("gemma3"), AdapterConfig(lora_target_modules=("vision_tower",)))
    assert tower.chosen and all("vision_tower" in target.name for target in tower.chosen)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("llama", {"lora_target_modules": ("q_proj", "nonsense")}, "no layer is called 'nonsense'"),
        ("qwen3_moe", {"lora_target_modules": ("gate_prj",)}, "did you mean"),
        ("llama", {"lora_target_modules": ("embed_tokens",)}, "an embedding"),
        ("mamba", {"lora_target_modules": ("out_proj",)}, "reads their weights past an adapter"),
        ("mixtral", {"lora_target_modules": ("experts",), "lora_dropout": 0.1}, "lora_dropout"),
        ("mixtral", {"lora_target_modules": ("experts",), "use_dora": True}, "use_dora"),
        (
            "llama",
            {"lora_target_modules": ("lm_head",), "train_control_tokens": True},
            "train_control_tokens",
        ),
    ],
)
def test_what_cannot_be_trained_and_merged_is_refused(name, settings, message):
    with pytest.raises(HarnessError) as caught:
        find_targets(on_meta(name), AdapterConfig(**settings))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_dense_layers_that_peft_takes_for_experts_are_refused_when_quantised():
    config = AdapterConfig(lora_target_modules=("shared_experts",))
    with pytest.raises(HarnessError, match="peft takes these names"):
        find_targets(on_meta("deepseek_v3"), config, quantised=True)


def test_control_tokens_are_refused_where_the_head_has_a_bias():
    """peft's layer for trained tokens computes the product alone. The control is Llama's head."""
    config = AdapterConfig(train_control_tokens=True)
    assert find_targets(on_meta("llama"), config).chosen
    with pytest.raises(HarnessError, match="has a bias"):
        find_targets(on_meta("phi"), config)
