"""LoRA on a frozen base, plain or quantised, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.lora import leave_casts_to_autocast
from harness.models import quiet
from harness.train.config import AdapterConfig
from harness.train.control_tokens import indices_by_layer

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from harness.models import LoadedModel


def add_adapter(loaded: LoadedModel, config: AdapterConfig, seed: int) -> PeftModel:
    """Wrap the model's linear layers with fresh LoRA factors. Everything else is frozen, but the embeddings of ``loaded.trained_tokens``.

    The factors are float32: at a rate of 1e-7 a bfloat16 adapter would not move at all.
    """
    import torch

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
    _in_float32(model)
    leave_casts_to_autocast(model)
    return model


def _in_float32(model: PeftModel) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if "lora_" not in name and "trainable_tokens_" not in name:
                raise AssertionError(f"{name} is trainable but no adapter weight")
            parameter.data = parameter.data.float()


def adapter_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """The trainable tensors by name, in a fixed order."""
    return {name: p.detach() for name, p in sorted(model.named_parameters()) if p.requires_grad}
