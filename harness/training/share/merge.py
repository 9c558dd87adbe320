"""Merge an adapter into its base: a model folder that needs neither peft nor bitsandbytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.files import new_folder
from harness.models import LoadedModel, load, quiet, read_base, trained_quantisation
from harness.models.quantisation import Quantisation, dequantised
from harness.run_file import base_of, find_adapter
from harness.training.share.processor_files import copy_processor

if TYPE_CHECKING:
    import torch

PlainDtype = Literal["float32", "bfloat16", "float16"]

#: The prompts that both models read.
PROMPTS = (
    "The capital of Norway is",
    "### Instruction:\nName three fruits.\n\n### Response:\n",
    "USER: How do I boil an egg? ASSISTANT: Put it into",
    "def add(a, b):\n    return",
)
#: Largest mean KL divergence, in nats a position, that computing in a dtype may cause. On
#: SmolLM2-135M bfloat16 causes 0.004.
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the merged model is from base and adapter, over all positions of the prompts.

    ``divergence`` is the mean KL divergence in nats, ``largest`` the largest difference of a logit,
    ``same_token`` the fraction of positions with the same most likely token.
    """

    divergence: float
    largest: float
    same_token: float
    positions: int


@dataclass(frozen=True, slots=True)
class Merged:
    """The folder, how well it agrees, and how the base was stored in training."""

    folder: Path
    dtype: str
    quantisation: Quantisation
    agreement: Agreement


def merge(
    adapter: Path,
    base: str | None,
    out: Path,
    dtype: PlainDtype = "bfloat16",
    *,
    quantisation: Quantisation | None = None,
    device: str = "cpu",
) -> Merged:
    """Merge an adapter, or that of a run, into its base; by default the one that it names.

    Writes model, tokenizer and chat template to a new folder.

    A multimodal base keeps its other parts, and the files of its processor.

    A QLoRA adapter is merged into the *dequantised* base: it has learnt to correct what quantising
    did to the weights, and on the original weights it would correct an error that is not there. The
    result is not quantised again. ``quantisation`` says how the base of a foreign adapter was
    stored; our own adapters record it. Raises HarnessError for another base, a folder that exists,
    a full disk, and a result that disagrees.
    """
    adapter, run = find_adapter(adapter)
    base = base or base_of(adapter, run, "--base MODEL")
    stored = quantisation or trained_quantisation(adapter)
    with new_folder(out) as partial:
        # A quantised base gets the dtype of the training, and so the same codes.
        loading = read_base(adapter).get("dtype", dtype) if stored else dtype
        loaded = load(base, adapter=str(adapter), dtype=loading, device=device, quantisation=stored)
        if stored.load_in_4bit:
            _compute_in_float32(loaded)
        before = probe(loaded)
        if not bool(before.isfinite().all()):
            raise HarnessError(
                "base and adapter together give NaN or infinite logits: nothing is merged",
                where=str(adapter),
                hint="look for NaN in the weights of both, or merge with --dtype float32",
            )
        into_plain_weights(loaded, dtype)
        agreement = compare(before, probe(loaded))
        # An 8-bit base rounds its activations too.
        allowed = TOLERANCE["bfloat16" if stored.load_in_8bit else dtype]
        if not agreement.divergence <= allowed:  # also when it is NaN
            raise HarnessError(
                f"the merged model disagrees: mean KL divergence {agreement.divergence:.2g} "
                f"nats a token, {allowed:g} allowed in {dtype}",
                where=str(adapter),
                hint="share the adapter as it is"
                if dtype == "float32"
                else "merge with --dtype float32, or share the adapter as it is",
            )
        with quiet():
            loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
            copy_processor(loaded.source, partial)
    return Merged(out, dtype, stored, agreement)


def _compute_in_float32(loaded: LoadedModel) -> None:
    """Let a model on a four-bit base compute in float32, so that only weights are compared."""
    import torch

    for module in loaded.model.modules():
        if _of_bitsandbytes(module) and hasattr(module, "compute_dtype"):
            setattr(module, "compute_dtype", torch.float32)  # noqa: B010  # an attribute that torch's Module does not declare
    for tensor in (*loaded.model.parameters(), *loaded.model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    loaded.dtype = "float32"


def into_plain_weights(loaded: LoadedModel, dtype: PlainDtype) -> None:
    """Replace adapted and quantised layers by plain ones, one at a time.

    Each sum is computed in float32 and rounded once.
    """
    import torch
    from peft.tuners.lora.layer import LoraLayer, ParamWrapper

    kind = getattr(torch, dtype)
    tuner: Any = loaded.model.base_model
    with quiet(), torch.no_grad():
        _give_tied_head_its_weight(tuner.model)
        for name, module in list(tuner.model.named_modules()):
            if isinstance(module, ParamWrapper):
                if not name.endswith(".base_layer"):  # the innermost of several on one module
                    tuner.model.set_submodule(name, _with_changes(module, kind))
            elif isinstance(module, LoraLayer):
                tuner.model.set_submodule(
                    name, _plain(module.get_base_layer(), _merged_weight(module), kind)
                )
        model = tuner.merge_and_unload()  # no LoRA layer is left; trained embeddings are
        for name, module in list(model.named_modules()):
            if _of_bitsandbytes(module):
                model.set_submodule(name, _plain(module, dequantised(module), kind))
    _forget_quantisation(model)
    _cast(model, kind)
    loaded.model = model.eval()
    loaded.dtype, loaded.adapter, loaded.adapter_digest, loaded.lean_lora = dtype, None, "", True
    loaded.quantisation = Quantisation()


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Give what is stored of a model this dtype, except what transformers loads in float32.

    What is computed when it loads, such as the angles of rotations, stays as it is.
    """
    kept = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and not any(part in name.split(".") for part in kept):
            tensor.data = tensor.data.to(dtype)


def _give_tied_head_its_weight(model: Any) -> None:
    """Untie an adapted head from the embedding, which stays as it was."""
    import torch
    from peft.tuners.lora.layer import LoraLayer

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if isinstance(head, LoraLayer) and head.get_base_layer().weight is embedding.weight:
        weight = embedding.weight.detach().clone()
        head.get_base_layer().weight = torch.nn.Parameter(weight, requires_grad=False)
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def _with_changes(wrapper: Any, dtype: torch.dtype) -> Any:
    """The module inside peft's wrappers of its parameters, with their changes added."""
    base = wrapper.get_base_layer()
    while wrapper is not base:
        [name] = wrapper.active_adapters
        parameter = getattr(base, wrapper.parameter_name)
        parameter.data = parameter.data.float()
        parameter.data = (parameter.data + wrapper.get_delta_weight(name)).to(dtype)
        wrapper = wrapper.base_layer
    return base


def _merged_weight(layer: Any) -> torch.Tensor:
    """Base and adapter of a LoRA layer as one matrix, in float32."""
    import torch
    from peft.tuners.lora.layer import Linear

    base = layer.get_base_layer()
    [name] = layer.active_adapters
    if not (isinstance(layer, Linear) or _of_bitsandbytes(base)) or layer.lora_bias[name]:
        raise HarnessError(
            f"cannot merge into a {type(layer).__name__} layer", hint="share the adapter as it is"
        )
    whole = dequantised(base)
    if name not in layer.lora_variant:
        delta: torch.Tensor = layer.get_delta_weight(name)
        return whole + delta.float()
    if _of_bitsandbytes(base):
        base.weight.quant_state.dtype = torch.float32  # DoRA reads the base once more
    else:
        base.weight.data = whole
    merged: torch.Tensor = layer.lora_variant[name].merge_safe(layer, name, whole)
    return merged


def _plain(base: Any, weight: torch.Tensor, dtype: torch.dtype) -> Any:
    """The layer with this weight, unquantised."""
    import torch
    from transformers.pytorch_utils import Conv1D

    if not _of_bitsandbytes(base):
        base.weight.data = weight.to(dtype)
        return base
    layer: Any
    if issubclass(base.source_cls, Conv1D):  # GPT-2 stores the transpose
        weight = weight.t().contiguous()
        with torch.device("meta"):
            layer = Conv1D(base.out_features, base.in_features)
    else:
        layer = torch.nn.Linear(base.in_features, base.out_features, bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.bias = base.bias
    return layer


def _of_bitsandbytes(module: Any) -> bool:
    return type(module).__module__.startswith("bitsandbytes")


def _forget_quantisation(model: Any) -> None:
    """Remove all that says that the weights were quantised, for save_pretrained and later users."""
    for owner, names in (
        (model, ("hf_quantizer", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit")),
        (model.config, ("quantization_config",)),
    ):
        for name in names:
            if name in vars(owner):
                delattr(owner, name)
    if getattr(model, "is_quantized", False):
        model.is_quantized = False


def probe(loaded: LoadedModel) -> torch.Tensor:
    """Logits at every position of the prompts, [positions, vocabulary], in float32."""
    import torch

    rows = []
    for prompt in PROMPTS:
        ids = torch.tensor(
            [loaded.tokenizer(prompt, add_special_tokens=False).input_ids], device=loaded.device
        )
        with loaded.inference():
            rows.append(loaded.model(input_ids=ids, use_cache=False).logits[0].float().cpu())
    return torch.cat(rows)


def compare(before: torch.Tensor, after: torch.Tensor) -> Agreement:
    """Compare logits of the same positions."""
    import torch

    old, new = before.log_softmax(-1), after.log_softmax(-1)
    divergence = torch.nn.functional.kl_div(new, old, log_target=True, reduction="batchmean")
    same = (before.argmax(-1) == after.argmax(-1)).float().mean()
    return Agreement(
        float(divergence), float((before - after).abs().max()), float(same), len(before)
    )
