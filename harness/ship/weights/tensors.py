"""Tensors by name, read one at a time: those of a model folder, or of a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import read_json_object
from harness.models import load
from harness.models.device import Dtype
from harness.models.quantisation import Quantisation, dequantised, is_quantised
from harness.models.tensor_files import check_tensors

if TYPE_CHECKING:
    import torch

HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Tensors:
    """Names of the tensors, and a function that reads one as it is stored.

    ``tied``: the configuration says that the output embedding is the input's. Then ``HEAD`` is
    usually no name of its own.
    """

    where: str
    names: frozenset[str]
    read: Callable[[str], torch.Tensor]
    tied: bool

    def embedding(self) -> str:
        """The name of the input embedding, or "" where none is found."""
        ends = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
        return next((name for name in sorted(self.names) if name.endswith(ends)), "")


def folder_tensors(folder: Path) -> Tensors:
    """The tensors in the safetensors files of a folder. Raises HarnessError for a damaged file."""
    from safetensors import safe_open

    files = {
        name: file for file in sorted(folder.glob("*.safetensors")) for name in check_tensors(file)
    }

    @cache
    def opened(file: Path) -> Any:
        return safe_open(file, framework="pt")

    def read(name: str) -> torch.Tensor:
        found: torch.Tensor = opened(files[name]).get_tensor(name)
        return found

    config = read_json_object(folder / "config.json")
    return Tensors(str(folder), frozenset(files), read, _tied(config))


def _tied(config: dict[str, Any]) -> bool:
    """Whether a configuration ties the embeddings, of its text model where it says so there."""
    inner = config.get("text_config")
    inner = inner if isinstance(inner, dict) else {}
    return bool(
        config.get("tie_word_embeddings", inner.get("tie_word_embeddings", _default(config)))
    )


def _default(config: dict[str, Any]) -> bool:
    """What the model's class ties where config.json does not say it."""
    from transformers import AutoConfig

    try:
        made = AutoConfig.for_model(str(config.get("model_type")))
    except ValueError:
        return False
    return bool(made.get_text_config().tie_word_embeddings)


def loaded_tensors(name: str, dtype: Dtype, stored: Quantisation) -> Tensors:
    """The tensors of a model in memory, under the names that an adapter gives its layers.

    Quantised matrices are dequantised in float32, as a merge does.
    """
    loaded = load(name, dtype=dtype, device="cpu", quantisation=stored)
    quantised = {
        f"{path}.weight": module
        for path, module in loaded.model.named_modules()
        if is_quantised(module)
    }
    kept = set(loaded.model.state_dict())
    buffers = {key: found for key, found in loaded.model.named_buffers() if key in kept}
    plain = dict(loaded.model.named_parameters()) | buffers

    def read(key: str) -> torch.Tensor:
        if key in quantised:
            return dequantised(quantised[key])
        found: torch.Tensor = plain[key].detach()
        return found

    tied = bool(loaded.model.config.get_text_config().tie_word_embeddings)
    return Tensors(name, frozenset({*plain, *quantised}), read, tied)


def base_tensors(
    name: str, folder: Path | None, dtype: Dtype, stored: Quantisation, wanted: Collection[str]
) -> Tensors:
    """The base's tensors: from its files where those hold all ``wanted`` names, else loaded.

    Files may use other names than the model in memory, and be quantised.
    """
    if not stored and folder is not None and any(folder.glob("*.safetensors")):
        found = folder_tensors(folder)
        ends = {HEAD} if found.tied else set()
        if set(wanted) - ends <= found.names:
            return found
    return loaded_tensors(name, dtype, stored)
