"""LoRA on a frozen base, plain or quantised, in float32, and what an adapter remembers of its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.quantisation import Quantisation
from harness.train.config import AdapterConfig
from harness.train.control_tokens import grow, indices_by_layer

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from harness.models import LoadedModel

#: Written beside an adapter: the digest and shape of the base it was trained on.
BASE_FILE = "base.json"


def add_adapter(loaded: LoadedModel, config: AdapterConfig, seed: int) -> PeftModel:
    """Wrap the model's linear layers with fresh LoRA factors. Everything else is frozen, but the embeddings of ``loaded.trained_tokens``.

    The factors are float32: at a rate of 1e-7 a bfloat16 adapter would not move at all.
    """
    import torch

    from harness.models import quiet

    with quiet():
        from peft import LoraConfig, get_peft_model  # inside: importing it is noisy

    if config.use_dora and loaded.quantisation.load_in_8bit:
        raise HarnessError(
            "adapter.use_dora: bitsandbytes cannot run an 8-bit layer whose weight DoRA has read", hint="take load_in_4bit, or LoRA without DoRA"
        )
    targets = config.lora_target_modules
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        trainable_token_indices=indices_by_layer(loaded.model, loaded.trained_tokens),
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = get_peft_model(loaded.model, lora)
        except ValueError as error:
            raise HarnessError(f"adapter.lora_target_modules: {str(error).splitlines()[0]}", hint='use "all-linear"') from None
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if "lora_" not in name and "trainable_tokens_" not in name:
                raise AssertionError(f"{name} is trainable but no adapter weight")
            parameter.data = parameter.data.float()
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # autocast casts the factors; peft would first copy every input to float32
    return model


def remove_adapter(loaded: LoadedModel) -> None:
    """Take the adapter off a loaded base, so that it can carry the next one: between the runs of a sweep the base is never loaded again."""
    unload = getattr(loaded.model, "unload", None)
    if unload is not None:
        loaded.model = unload()
    loaded.adapter, loaded.adapter_digest, loaded.fused = None, "", True


def adapter_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """The trainable tensors by name, in a fixed order."""
    return {name: p.detach() for name, p in sorted(model.named_parameters()) if p.requires_grad}


def describe_base(loaded: LoadedModel) -> dict[str, Any]:
    """What an adapter remembers of its base."""
    config = loaded.model.config
    return {
        "name": loaded.name,
        "digest": loaded.source.digest,
        "model_type": config.model_type,
        "hidden_size": getattr(config, "hidden_size", None),
        "num_hidden_layers": getattr(config, "num_hidden_layers", None),
        "vocab_size": getattr(config, "vocab_size", None),
        "dtype": loaded.dtype,
        "quantisation": loaded.quantisation.as_dict() if loaded.quantisation else None,
        "added_tokens": list(loaded.added_tokens),
    }


def read_base(folder: Path) -> dict[str, Any]:
    """What an adapter remembers of its base; nothing for one of a foreign trainer."""
    file = folder / BASE_FILE
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def trained_quantisation(folder: Path) -> Quantisation:
    """How the base was stored when this adapter was trained."""
    return Quantisation(**(read_base(folder).get("quantisation") or {}))


def fit_to_adapter(folder: Path, loaded: LoadedModel) -> None:
    """Raise HarnessError when the adapter says that it was trained on another base, and give the base the control tokens it was trained with.

    An adapter of a foreign trainer is checked by peft alone.
    """
    made_for = read_base(folder)
    if not made_for:
        return
    if made_for["digest"] != loaded.source.digest:
        raise HarnessError(
            f"this adapter was trained on {made_for['name']} ({made_for['digest']}), not on {loaded.name} ({loaded.source.digest})",
            where=str(folder),
            hint="give the base it was trained on",
        )
    grow(loaded, made_for.get("added_tokens", ()))
