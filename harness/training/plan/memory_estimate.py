"""The peak memory of a training step, as a sum with a reason for each term.

No weight is loaded: shapes come from the model's configuration, on torch's meta device, and the
adapted weights from the same list that training uses. What autograd keeps is counted for a decoder
of the Llama kind with LoRA on its linear layers, in the order of its forward pass; other models
differ in the term called activations, and the hand-written passes of a CPU keep less.
tests/training/test_memory_estimate.py compares it with what torch keeps, and with the peak of a
process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.models.architecture import (
    build_on_meta,
    largest_size,
    linear_layers,
    pick_class,
    read_config,
)
from harness.training.config import AdapterConfig
from harness.training.step.lora_targets import ALL_LINEAR, Target, TargetList, find_targets

if TYPE_CHECKING:
    from harness.models import ModelSource

Storage = Literal["float32", "bfloat16", "float16", "int8", "nf4", "nf4 with double quantisation"]

#: Bytes per weight of a linear layer. Four bits come with a float32 scale for each 64 weights;
#: double quantisation stores those in eight bits, with a float32 for each 256 of them (QLoRA, arXiv
#: 2305.14314, section 3).
WEIGHT_BYTES: dict[Storage, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "int8": 1.0,
    "nf4": 0.5 + 4 / 64,
    "nf4 with double quantisation": 0.5 + 1 / 64 + 4 / (64 * 256),
}
#: Bytes of Adam's two moments per trained weight. In eight bits with a float32 scale for each 256.
MOMENT_BYTES = {"adamw_torch": 8.0, "adamw_8bit": 2.0 + 8 / 256, "paged_adamw_8bit": 2.0 + 8 / 256}
#: What a process holds before it loads a model: torch and transformers, or a CUDA context.
#: On CUDA that and what kernels and cuBLAS add during a step, beside torch's allocator: 0.5 to 0.77
#: GiB on an H200 (docs/log.md). The upper end is taken, since a card that is full has no reserve.
RUNTIME_BYTES = {"cpu": 600 * 2**20, "cuda": 768 * 2**20, "mps": 300 * 2**20}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model's shape, and its weights with LoRA factors."""

    linear_weights: int
    other_weights: int
    adapted: tuple[Target, ...]
    layers: int
    hidden: int
    query: int
    intermediate: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class StepShape:
    """The largest forward pass of a step.

    ``tokens`` counts padding, ``supervised`` only tokens with a loss.
    """

    storage: Storage
    compute_bytes: int
    rank: int
    optim: str
    tokens: int
    supervised: int
    dropout: bool = False
    dora: bool = False
    checkpointing: bool = False
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Part:
    """One term of the sum, in bytes, and how it is computed."""

    name: str
    bytes: int
    why: str


def estimate(model: ModelShape, step: StepShape) -> tuple[Part, ...]:
    """The terms of the peak, which is reached when the backward pass begins.

    With gradient checkpointing there are two moments: the logits beside the layers' inputs, and
    later, when the logits are freed, one layer computed again. The larger one counts.
    """
    factors = sum(each.factors(step.rank, dora=step.dora) for each in model.adapted)
    b = step.compute_bytes
    weight = WEIGHT_BYTES[step.storage]
    other = 4.0 if step.storage == "float32" else 2.0
    weights = model.linear_weights * weight + model.other_weights * other
    layer, terms = layer_activations(model, step)
    per_token = model.layers * layer
    formula = f"{model.layers} layers × {layer:,} B ({terms})"
    logit = 12 if b == 4 else 14
    logits = step.supervised * model.vocabulary * logit
    supervised = f"{step.supervised:,} supervised tokens × {model.vocabulary:,} × {logit} B"
    if step.checkpointing:
        per_token = model.layers * model.hidden * b
        formula = f"{model.layers} layers × {model.hidden} × {b} B"
        again = layer + 2 * model.intermediate * b
        if step.tokens * again > logits:
            per_token += again
            formula += f" + {again:,} B of one layer and its gradients"
            logits, supervised = 0, "freed before a layer is computed again, which takes more"
    moment = MOMENT_BYTES[step.optim]
    parts = [
        Part("base weights", round(weights), _weights_formula(model, step.storage, weight, other)),
        Part("adapter", 4 * factors, f"{factors:,} weights × 4 B (float32)"),
        Part("gradients", 4 * factors, f"{factors:,} × 4 B"),
        Part("moments", round(moment * factors), f"{factors:,} × {moment:.3g} B ({step.optim})"),
        Part("activations", step.tokens * per_token, f"{step.tokens:,} tokens × ({formula})"),
        Part("logits", logits, supervised),
    ]
    if b < 4:
        text = f"{factors:,} × {b} B, cast once a step"
        parts.append(Part("factors in 16 bits", b * factors, text))
    if added := [each for each in model.adapted if each.parameter]:
        sizes = [each.copies * each.inputs * each.outputs for each in added]
        alive = sum(sizes) // (max(1, model.layers) if step.checkpointing else 1) + max(sizes)
        text = f"{alive:,} weights with their change, and the gradient of the largest × {b} B"
        parts.append(Part("changed experts", b * alive, text))
    if step.storage not in ("float32", "bfloat16", "float16"):
        largest = max((each.inputs * each.outputs for each in model.adapted), default=0)
        text = f"{largest:,} weights of the largest layer × {b} B"
        parts.append(Part("dequantised layer", largest * b, text))
    runtime = f"libraries and context ({step.device})"
    return (*parts, Part("runtime", RUNTIME_BYTES[step.device], runtime))


def layer_activations(model: ModelShape, step: StepShape) -> tuple[int, str]:
    """Bytes per token that one layer keeps for its backward pass, and their terms.

    Frozen weights keep nothing of their input; a factor A does, and layers that read the same input
    share it. With dropout each keeps its own copy, and a mask.
    """
    h, q, i, b = model.hidden, model.query, model.intermediate, step.compute_bytes
    beside = [each for each in model.adapted if not each.parameter]
    inputs = sum(each.inputs for each in beside) // max(1, model.layers)
    terms = {
        "norms": 2 * 4 * h,
        "inputs of the factors": inputs * (b + 1) if step.dropout else 2 * h * b,
        "attention": 5 * q * b,
        "MLP": 4 * i * b,
        "behind A": step.rank * b * len(beside) // max(1, model.layers),
    }
    return sum(terms.values()), ", ".join(f"{name} {size:,}" for name, size in terms.items())


def total(parts: tuple[Part, ...]) -> int:
    """The sum, in bytes."""
    return sum(part.bytes for part in parts)


def _weights_formula(model: ModelShape, storage: Storage, weight: float, other: float) -> str:
    linear = f"{model.linear_weights:,} linear weights × {weight:.4g} B ({storage})"
    return f"{linear} + {model.other_weights:,} others × {other:g} B"


def shape_of(
    source: ModelSource, adapter: AdapterConfig, *, quantised: bool = False
) -> tuple[ModelShape, TargetList]:
    """The shape of a located model, and what of it an adapter with these settings trains.

    Raises HarnessError for an unreadable configuration, for one of another kind of model, and for
    settings that training would refuse.
    """
    config = read_config(source)
    quantised = quantised or bool(getattr(config, "quantization_config", None))
    return shape_from(config, pick_class(config, source.file), adapter, quantised=quantised)


def mistral_7b(adapter: AdapterConfig, *, quantised: bool = True) -> ModelShape:
    """The shape of a 7B model: transformers' defaults for Mistral, those of Mistral-7B-v0.1."""
    from transformers import AutoModelForCausalLM, MistralConfig

    model = (MistralConfig(), AutoModelForCausalLM)
    try:
        return shape_from(*model, adapter, quantised=quantised)[0]
    except HarnessError:  # named layers of another architecture
        usual = replace(adapter, lora_target_modules=ALL_LINEAR)
        return shape_from(*model, usual, quantised=quantised)[0]


def shape_from(
    config: Any, kind: Any, adapter: AdapterConfig, *, quantised: bool
) -> tuple[ModelShape, TargetList]:
    """Count the weights of a configuration. ``kind`` is the auto class of transformers for it."""
    model = build_on_meta(config, kind, "")
    targets = find_targets(model, adapter, quantised=quantised)
    weights = sum(layer.weight.numel() for layer in linear_layers(model).values())
    text = config.get_text_config()
    hidden = largest_size(text, "hidden_size")
    heads = largest_size(text, "num_attention_heads")
    width = largest_size(text, "head_dim")
    shape = ModelShape(
        linear_weights=weights,
        other_weights=sum(parameter.numel() for parameter in model.parameters()) - weights,
        adapted=targets.chosen,
        layers=text.num_hidden_layers,
        hidden=hidden,
        query=heads * width if width and heads else hidden,
        intermediate=largest_size(text, "intermediate_size") or 4 * hidden,
        vocabulary=text.vocab_size,
    )
    return shape, targets
