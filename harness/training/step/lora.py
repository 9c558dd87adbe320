"""LoRA in float32 on a frozen base, and the control tokens that formats need."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.models import quiet
from harness.models.added_tokens import add_tokens
from harness.models.lora_forward import leave_casts_to_autocast
from harness.models.quiet import first_line
from harness.records import Format
from harness.tokens.encode import special_texts
from harness.tokens.tokenizer_check import control_strings, untrained_tokens
from harness.training.config import AdapterConfig
from harness.training.step.lora_targets import Target, find_targets

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from harness.models import LoadedModel


def begin_training(model: torch.nn.Module) -> None:
    """Switch dropout on, and leave frozen routers as they run when the model is measured.

    Some add noise in training, so that other experts are tried (PhiMoE, DBRX).
    """
    model.train()
    for module in model.modules():
        if "router" in type(module).__name__.lower() and not any(
            weight.requires_grad for weight in module.parameters()
        ):
            module.eval()


def add_adapter(loaded: LoadedModel, config: AdapterConfig, seed: int) -> PeftModel:
    """Give the weights of ``find_targets`` fresh LoRA factors, and return the wrapped model.

    Everything else is frozen, except the embeddings of ``loaded.trained_tokens``. The factors are
    float32: at a rate of 1e-7 a bfloat16 adapter would not move at all.
    """
    import torch

    with quiet():
        from peft import LoraConfig, get_peft_model  # inside: importing it is noisy

    if config.use_dora and loaded.quantisation.load_in_8bit:
        raise HarnessError(
            "adapter.use_dora: bitsandbytes cannot run an 8-bit layer whose weight DoRA has read",
            hint="use load_in_4bit, or LoRA without DoRA",
        )
    targets = find_targets(loaded.model, config, quantised=bool(loaded.quantisation)).chosen
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        trainable_token_indices=indices_by_layer(loaded.model, loaded.trained_tokens),
        target_modules=[target.name for target in targets if not target.parameter],
        target_parameters=[target.name for target in targets if target.parameter],
        task_type="CAUSAL_LM",
    )
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = get_peft_model(loaded.model, lora)
        except ValueError as error:
            raise HarnessError(f"adapter.lora_target_modules: {first_line(error)}") from None
    _refuse_other_targets(model, targets)
    _in_float32(model)
    leave_casts_to_autocast(model)
    return model


def _refuse_other_targets(model: PeftModel, targets: Sequence[Target]) -> None:
    """Check that peft adapted what was chosen: it compares the ends of names."""
    from peft.tuners.lora.layer import LoraLayer

    adapted = Counter(
        name.replace(".base_layer", "")
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, LoraLayer)
    )
    if adapted != Counter(target.module for target in targets):
        other = min(adapted.keys() ^ {target.module for target in targets}, default="a layer twice")
        raise HarnessError(
            f"peft adapted other layers than were chosen: {other}",
            where="adapter.lora_target_modules",
            hint="name the layers by more of their full names",
        )


def _in_float32(model: PeftModel) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if "lora_" not in name and "trainable_tokens_" not in name:
                raise AssertionError(f"{name} is trainable but not an adapter weight")
            parameter.data = parameter.data.float()


def add_control_tokens(loaded: LoadedModel, formats: Sequence[Format]) -> None:
    """Add the control tokens that these formats need to a loaded base.

    Also records in ``loaded.trained_tokens`` which embeddings an adapter must train: the new ones,
    and those of the formats' tokens whose norm is so small that the base cannot have trained them.
    New rows of the embedding start as its mean, so that nothing is random.
    """
    import torch

    texts = missing_tokens(loaded.tokenizer, formats)
    embedding = loaded.model.get_input_embeddings().weight.detach().float()
    norms = torch.linalg.vector_norm(embedding, dim=1).cpu().numpy()
    strings = {text for each in formats for text in control_strings(each, loaded.tokenizer)}
    untrained = untrained_tokens(loaded.tokenizer, sorted(strings), norms)
    add_tokens(loaded, texts)
    tokens = (*loaded.added_tokens, *untrained)
    loaded.trained_tokens = tuple(sorted(set(map(loaded.tokenizer.convert_tokens_to_ids, tokens))))


#: A string of this shape is a token wherever it is used; [INST] or ### are not.
_TOKEN_SHAPE = re.compile(r"<\|[^\s|<>]+\|>|<｜[^｜<>]+｜>")


def missing_tokens(
    tokenizer: PreTrainedTokenizerBase, formats: Iterable[Format]
) -> tuple[str, ...]:
    """The control tokens of these formats that the tokenizer does not have.

    Control tokens are strings of the shape ``<|…|>``, and those of the same shape as a stop token
    of the format: with ``<end_of_turn>`` declared, ``<start_of_turn>`` is one too. Stop tokens that
    a format never writes are left out, since nothing would train them.
    """
    known = special_texts(tokenizer)
    needed: set[str] = set()
    for each in formats:
        shapes = {_shape(token) for token in each.stop_tokens}
        needed |= {
            text
            for text in control_strings(each, tokenizer)
            if _TOKEN_SHAPE.fullmatch(text) or _shape(text) in shapes
        }
    return tuple(sorted(needed - set(known)))


def _shape(text: str) -> tuple[str, str]:
    """The start and end of a control string: ``[/INST]`` → ``[``, ``]``."""
    inner = text.strip("<>[]|｜/")
    begin, _, end = text.partition(inner)
    return begin.replace("/", ""), end


def indices_by_layer(model: Any, ids: Sequence[int]) -> list[int] | dict[str, list[int]] | None:
    """peft's ``trainable_token_indices``: one list, or one for each of embedding and head."""
    if not ids:
        return None
    if getattr(model.config, "tie_word_embeddings", False):  # peft asks the same
        return list(ids)
    names = {id(module): name.rsplit(".", 1)[-1] for name, module in model.named_modules()}
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return {names[id(layer)]: list(ids) for layer in layers}
