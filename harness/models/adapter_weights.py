"""peft's model around a base, in which each factor got its weights, and each weight its factor.

peft loads what matches and leaves the rest as it was made, with at most a warning: an adapter of
another model would be measured as the base.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import read_json_object
from harness.models.completeness import some_names
from harness.models.tensor_files import check_tensors
from harness.run_file import ADAPTER_CONFIG

ADAPTER_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
#: Initialisations of LoRA after which base and adapter only together are the trained model.
_CHANGE_THE_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
#: Weights that all layers share, which peft stores once or not at all.
_SHARED = re.compile(r"vblora_vector_bank|\.tinylora_v\.|\.unilora_theta_d\.")


def wrap(model: Any, name: str, folder: Path) -> Any:
    """The model ``name`` with the adapter in a folder on it.

    An adapter of the text model alone is also put on the text model inside a multimodal one. Raises
    HarnessError when weights and layers do not match one to one, and for kinds of adapter that
    cannot be measured.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, PeftModel, PeftModelForCausalLM

    settings = read_json_object(folder / ADAPTER_CONFIG)
    method = settings.get("peft_type")
    if method not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise HarnessError(f"peft knows no peft_type {method!r}", str(folder / ADAPTER_CONFIG))
    stored = check_tensors(folder / ADAPTER_FILE)
    _refuse_rank(settings, stored.values(), str(folder))
    config = PeftConfig.from_pretrained(str(folder))
    _refuse_kind(config, folder)
    config.inference_mode = True
    renamed = dict(getattr(model, "_checkpoint_conversion_mapping", None) or {})
    if inside := _text_paths(model, stored):
        path, head = inside
        renamed = {r"^model\.": f"{path}.", r"^lm_head\.": f"{head}."}
        config.exclude_modules = rf"(?!{re.escape(path)}\.|{re.escape(head)}$).*"
    kind = PeftModelForCausalLM if config.task_type else PeftModel
    adapted = kind(model, config)
    result = adapted.load_adapter(str(folder), "default", key_mapping=renamed)
    missing = [_plain(key) for key in result.missing_keys if not _SHARED.search(key)]
    unknown = [_plain(key) for key in result.unexpected_keys]
    found = []
    if unknown:
        found.append(f"has weights for layers that the model lacks: {some_names(unknown)}")
    if missing:
        found.append(f"has no weights for {some_names(missing)}")
    if found:
        raise HarnessError(
            f"the adapter does not fit {name}: it {', and it '.join(found)}",
            where=str(folder),
            hint="give the base it was trained on",
        )
    return adapted


def _refuse_rank(
    settings: Mapping[str, Any], shapes: Iterable[tuple[int, ...]], where: str
) -> None:
    """Raise HarnessError for a rank that none of the adapter's tensors has.

    peft makes factors of that rank before it reads the tensors.
    """
    largest = max((size for shape in shapes for size in shape), default=0)
    patterns = settings.get("rank_pattern") or {}
    ranks = [settings.get(name) for name in ("r", "init_r", "target_r", "num_vectors")]
    for rank in (*ranks, *(patterns.values() if isinstance(patterns, dict) else ())):
        if isinstance(rank, int) and rank > largest:
            raise HarnessError(
                f"the rank is {rank:,}, and the largest size of a tensor is {largest:,}",
                where=where,
                hint="adapter_config.json is damaged, or belongs to another adapter",
            )


def _refuse_kind(config: Any, folder: Path) -> None:
    """Raise HarnessError for an adapter that cannot be measured or taken off again."""
    where = str(folder)
    if config.task_type not in (None, "CAUSAL_LM"):
        raise HarnessError(
            f"the adapter was trained for {config.task_type}, not for CAUSAL_LM", where
        )
    if config.is_prompt_learning or config.is_adaption_prompt:
        method = str(getattr(config.peft_type, "value", config.peft_type))
        raise HarnessError(
            f"{method} adapters, which put vectors before the prompt, are not supported",
            where,
            hint="give an adapter of weights, such as LoRA",
        )
    start = getattr(config, "init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGE_THE_BASE):
        raise HarnessError(
            f"the adapter was initialised by {start}, which also changes the base's weights",
            where,
            hint="convert it to plain LoRA: peft's path_initial_model_for_weight_conversion",
        )


def _text_paths(model: Any, stored: Iterable[str]) -> tuple[str, str] | None:
    """Where a multimodal model holds the text model that an adapter was trained on, and its head.

    None for another model, and for an adapter that names its layers as the whole model does.
    """
    layers = "model.layers."
    names = {module: name for name, module in model.named_modules()}
    alone = any(key.startswith(_PREFIX + layers) for key in stored)
    if not alone or any(name.startswith(layers) for name in names.values()):
        return None
    path = names.get(model.get_decoder(), "")
    if f"{path}.model" in names.values():  # it is a text model with a head
        path += ".model"
    return path, names.get(model.get_output_embeddings(), "lm_head")


def _plain(key: str) -> str:
    """A weight's name without peft's prefix and the adapter's name."""
    return key.removeprefix(_PREFIX).replace(".default", "", 1)
