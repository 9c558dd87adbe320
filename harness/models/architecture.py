"""The transformers class that a model's configuration asks for, and its linear layers.

What generates no text is refused.

A multimodal model is loaded whole, with its vision and audio parts, so that merging and exporting
keep them. Nothing that a model's folder brings as code is run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeGuard

from harness.errors import HarnessError
from harness.models.completeness import refuse_too_many_modules
from harness.models.quantisation import dequantised
from harness.models.quiet import first_line, quiet, refusal
from harness.models.source import ModelSource

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

#: Encoders unless their configuration says is_decoder; transformers' tables do not list them.
_BOTH_WAYS = ("bert-generation", "cpmant", "xlnet")
#: Decoders that run at fixed lengths only, and why they are refused.
_FIXED_LENGTHS = {"reformer": "trains at one length only, that of its axial positions"}
#: Classes in a configuration's "architectures" that predict something other than the next token.
_OTHER_TASK = re.compile(
    r"(Classification|QuestionAnswering|MultipleChoice|MaskedLM|PreTraining|SentencePrediction"
    r"|RewardModel|BlockDiffusion)$"
)
#: Names that configurations of transformers have for a model's window.
WINDOW_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "context_length")


def read_config(source: ModelSource) -> PreTrainedConfig:
    """A model's configuration.

    The language model inside a multimodal one has its sizes in ``config.get_text_config()``. Raises
    HarnessError when it is unreadable, needs code of its own, or has more layers than the model's
    files can have.
    """
    from transformers import AutoConfig

    extra = {"gguf_file": source.gguf} if source.gguf else {}
    with quiet():
        try:
            config = AutoConfig.from_pretrained(source.path, trust_remote_code=False, **extra)
        except Exception as error:  # a damaged file makes the libraries raise anything
            raise refusal("cannot read the model's configuration", error, source.file) from None
    refuse_too_many_modules(config, source)
    return config


def build_on_meta(config: Any, auto_class: Any, where: str) -> Any:
    """The model of a configuration on the device "meta": its modules and shapes, without memory.

    Raises HarnessError for a configuration that contradicts itself.
    """
    import torch

    with quiet(), torch.device("meta"):
        try:
            return auto_class.from_config(config)
        except Exception as error:  # as above
            raise refusal("cannot build the model from its configuration", error, where) from None


def pick_class(config: Any, where: str) -> Any:
    """The auto class of transformers that loads this model.

    Raises HarnessError saying what the model is, when it does not predict the next token of a text.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MULTIMODAL_LM_MAPPING,
    )

    if kind := _other_kind(config):
        raise HarnessError(
            f"this is {kind}, not a model that predicts the next token",
            where=where,
            hint="give a causal language model",
        )
    if why := _FIXED_LENGTHS.get(config.model_type):
        raise HarnessError(f"this model ({config.model_type}) {why}", where=where)
    multimodal = type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING
    if multimodal and config.get_text_config() is not config:
        return AutoModelForMultimodalLM
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if multimodal:
        return AutoModelForMultimodalLM
    raise HarnessError(
        f"transformers has no language model for the type {config.model_type!r}",
        where=where,
        hint="give a causal language model",
    )


def _other_kind(config: Any) -> str:
    """What a model is that does not predict the next token; "" for one that does."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    try:
        text = config.get_text_config()
    except ValueError as error:  # several parts that read text
        return f"a model of several text parts ({first_line(error)})"
    stored = next(iter(config.architectures or ()), "") or type(config).__name__
    if config.is_encoder_decoder or text.is_encoder_decoder:
        return f"an encoder-decoder ({stored})"
    if _OTHER_TASK.search(stored):
        return f"a model for another task ({stored})"
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING or config.model_type in _BOTH_WAYS
    both_ways = getattr(text, "use_bidirectional_attention", None) in (True, "all")
    if (masked and not getattr(config, "is_decoder", False)) or both_ways:
        return f"an encoder, which also reads what follows ({stored})"
    return ""


def context_window(config: Any) -> int | None:
    """The longest text that a model was built for, in tokens, or None if it has no bound.

    Beyond it a model with learned positions fails, and one with rotations is outside its training.
    "dynamic" rotations are another function for each longer length, and are not used there.
    """
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in WINDOW_KEYS)
    return next((n for n in found if isinstance(n, int) and n > 0), None)


def largest_size(config: Any, *names: str) -> int:
    """The largest number that a configuration has by these names; 0 if it has none.

    Where each layer has its own, that of any layer.
    """
    found = [0]
    for name in names:
        try:
            value = getattr(config, name, None)
        except RuntimeError:  # transformers names no single one where layers differ, as in Gemma 4
            value = [getattr(layer, name, None) for layer in config.per_layer_config]
        values = value if isinstance(value, list | tuple) else [value]
        found += [each for each in values if isinstance(each, int)]
    return max(found)


def is_linear(module: Any) -> TypeGuard[torch.nn.Module]:
    """Whether a module multiplies its input with a matrix. Quantised layers do."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (torch.nn.Linear, Conv1D))


def linear_layers(model: Any) -> dict[str, Any]:
    """Name → linear layer, without the output embedding and the layer inside its adapter."""
    head = model.get_output_embeddings()
    head = head.get_base_layer() if hasattr(head, "get_base_layer") else head
    return {
        name: module
        for name, module in model.named_modules()
        if is_linear(module) and module is not head
    }


def linear_size(layer: Any) -> tuple[int, int]:
    """Inputs and outputs of a linear layer."""
    if hasattr(layer, "in_features"):  # a quantised weight has another shape
        return layer.in_features, layer.out_features
    inputs, outputs = layer.weight.shape  # GPT-2's Conv1D
    return inputs, outputs


def linear_weight(layer: Any) -> torch.Tensor:
    """The weight [out, in] of a linear layer in float32, dequantised where necessary."""
    weight = dequantised(layer)
    return weight if hasattr(layer, "in_features") else weight.t()
