"""Recognises plain Llama-like decoders, which the hand-written passes can run.

Everything else runs through transformers and peft.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from harness.models.device import takes_heads
from harness.models.llama.parts import DecoderParts, Heads, LayerParts, Norm, Projection
from harness.models.lora_forward import is_plain

if TYPE_CHECKING:
    from harness.models import LoadedModel

#: Classes of transformers whose layers are norm, causal attention with rotary positions, norm and
#: gated MLP, with residuals, and nothing else.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
#: Rotations that depend on the longest row of a batch: ours share one for rows of all widths.
BATCH_DEPENDENT = ("dynamic", "longrope")


class _OtherKind(Exception):
    """Some part is not what the hand-written passes compute."""


def take_apart(
    loaded: LoadedModel,
    longest: int,
    *,
    devices: tuple[str, ...] = ("cpu",),
    training: bool = False,
) -> DecoderParts | None:
    """The model's parts, or None if any of them is not plain.

    Plain is: a Llama-like class of transformers on one of ``devices`` in float32 or bfloat16 (off
    the CPU also float16), not quantised, LoRA without dropout in use, bias, DoRA or other variants
    on its linear layers, no gradient checkpointing, and no row (``longest`` tokens) beyond a
    sliding window. An adapter that is switched off is left out. For ``training`` it must be on, the
    weights may be of four bits, activations may be recomputed, and the model may be on CUDA where
    FlashAttention's kernel runs. Adapters can be switched off and merged, so this is called for
    each batch or run; it takes about a millisecond.
    """
    model = loaded.base
    try:
        _check_model(loaded, model, longest)
        if training:
            width = model.model.layers[0].self_attn.head_dim
            _need(loaded.device == "cpu" or _runs_kernels(loaded, width))
        else:
            _check_for_inference(loaded, model, devices)
        body = model.model
        return DecoderParts(
            _exactly(body.embed_tokens, torch.nn.Embedding).weight,
            tuple(_layer(module, model.config, training=training) for module in body.layers),
            _norm(body.norm),
            _projection(_exactly(model.lm_head, torch.nn.Linear)).weight,
            body.rotary_emb,
        )
    except _OtherKind:
        return None


def inputs_in_common(loaded: LoadedModel) -> list[tuple[torch.nn.Linear, ...]]:
    """The layers of a plain model that read the same input: q, k and v; gate and up."""
    groups = []
    for layer in loaded.base.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for group in (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (mlp.gate_proj, mlp.up_proj),
        ):
            groups.append(tuple(getattr(module, "base_layer", module) for module in group))
    return groups


def recomputes(module: torch.nn.Module) -> bool:
    """Whether gradient checkpointing is on in this module, its parts aside."""
    return bool(vars(module).get("gradient_checkpointing"))


def _check_for_inference(loaded: LoadedModel, model: Any, devices: tuple[str, ...]) -> None:
    kind = loaded.device.split(":")[0]
    _need(kind in devices)
    _need(not getattr(model, "is_quantized", False) and not any(map(recomputes, model.modules())))


def _check_model(loaded: LoadedModel, model: Any, longest: int) -> None:
    config = model.config
    windows = (
        [config.sliding_window]
        if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        else []
    )
    _need(
        type(model).__name__ in ARCHITECTURES
        and type(model).__module__.startswith("transformers.models.")
    )
    half = loaded.dtype == "float16" and loaded.device != "cpu"
    _need((half or loaded.dtype in ("float32", "bfloat16")) and model.dtype == loaded.torch_dtype)
    placed = getattr(model, "hf_device_map", None) or {}
    _need(len(set(placed.values())) <= 1)  # of accelerate, for a model on several devices
    _need(
        config.hidden_act == "silu"
        and not config.attention_dropout
        and all(longest <= window for window in windows)
    )
    _need(
        config.rope_parameters.get("rope_type", "default") not in BATCH_DEPENDENT
        and config.rope_parameters.get("partial_rotary_factor", 1.0) == 1.0
    )
    _need(
        _exactly(model.lm_head, torch.nn.Linear).bias is None
    )  # peft wraps it where tokens are trained


def _layer(module: Any, config: Any, *, training: bool) -> LayerParts:
    attention, mlp = module.self_attn, module.mlp
    projections = (
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        mlp.gate_proj,
        mlp.up_proj,
        mlp.down_proj,
    )
    heads = Heads(
        config.num_attention_heads,
        config.num_key_value_heads,
        attention.head_dim,
        attention.scaling,
    )
    return LayerParts(
        _norm(module.input_layernorm),
        _norm(module.post_attention_layernorm),
        tuple(_projection(each, training=training) for each in projections),
        heads,
    )


def _norm(module: Any) -> Norm:
    _need(type(module).__name__.endswith("RMSNorm") and not _hooked(module))
    return Norm(module.weight.detach(), module.variance_epsilon)


def _runs_kernels(loaded: LoadedModel, width: int) -> bool:
    """Whether the kernels of the hand-written training run, on heads of this width."""
    return (
        loaded.device.startswith("cuda")
        and loaded.dtype == "bfloat16"
        and takes_heads(width, torch.cuda.get_device_capability(loaded.device))
    )


#: Linear layers of torch and of bitsandbytes, and the LoRA layers that peft makes of them.
_LINEAR = ("torch.nn.modules.linear.Linear", "bitsandbytes.nn.modules.Linear4bit")
_ADAPTED = ("peft.tuners.lora.layer.Linear", "peft.tuners.lora.bnb.Linear4bit")


def _projection(module: Any, *, training: bool = False) -> Projection:
    if _kind(module) in _LINEAR:
        _need(not _hooked(module))
        return Projection(module)
    _need(_kind(module) in _ADAPTED and not _hooked(module) and not module.fan_in_fan_out)
    base = module.base_layer
    _need(_kind(base) in _LINEAR and not _hooked(base))
    if module.disable_adapters and not module.merged and not training:
        return Projection(base)
    _need(is_plain(module))
    [name] = module.active_adapters
    dropout = module.lora_dropout[name]
    # in training it will be in use, whatever mode the model is in now
    _need(isinstance(dropout, torch.nn.Identity) or not (training or module.training))
    return Projection(
        base,
        module.lora_A[name].weight,
        module.lora_B[name].weight,
        module.scaling[name],
    )


def _kind(module: Any) -> str:
    """The full name of its class, without importing the library that it is from."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _exactly(module: Any, kind: type) -> Any:
    _need(type(module) is kind and not _hooked(module))
    return module


def _hooked(module: Any) -> bool:
    return bool(
        hasattr(module, "_hf_hook")  # accelerate's: its weights may be elsewhere
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _need(holds: bool) -> None:
    if not holds:
        raise _OtherKind
