"""What an adapter adds to a base, recomputed from the adapter's files alone.

LoRA adds s·B·A to a matrix, with s = alpha / r, or alpha / √r for rsLoRA (arXiv 2312.03732). DoRA
(arXiv 2402.09353) then gives each row the length m. Layers that were saved whole replace those of
the base, and trained tokens replace rows of the embedding. Neither peft nor the merge is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import read_json_object
from harness.models import ADAPTER_FILE
from harness.models.tensor_files import read_tensors
from harness.run_file import ADAPTER_CONFIG

if TYPE_CHECKING:
    import torch

_PREFIX = "base_model.model."
_PARTS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "embedding_a",
    ".lora_embedding_B": "embedding_b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_B.bias": "bias",
    ".token_adapter.trainable_tokens_delta": "rows",
    ".trainable_tokens_delta": "rows",
}


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor of the base.

    ``parts`` are its own tensors, and ``scale`` is s. ``indices`` are the rows that ``rows``
    replaces. ``whole`` replaces the tensor.
    """

    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    scale: float = 1.0
    transposed: bool = False
    indices: tuple[int, ...] = ()
    whole: torch.Tensor | None = None

    @property
    def is_added(self) -> bool:
        """Whether something is added that can be there several times, or not at all."""
        return self.whole is None and "rows" not in self.parts

    def apply(self, base: torch.Tensor) -> torch.Tensor:
        """The tensor with the change, in float32. ``base`` has the dtype that it was merged in."""
        import torch

        if self.whole is not None:
            return self.whole.float()
        found = base.float()
        if "rows" in self.parts:
            added = max(self.indices) + 1 - len(found)  # tokens that the adapter brings along
            found = torch.cat([found, found.new_zeros(max(0, added), found.shape[1])])
            found[torch.tensor(self.indices)] = self.parts["rows"].float()
        if "bias" in self.parts:
            return found + self.parts["bias"].float() * self.scale
        delta = self._delta()
        if delta is None:
            return found
        found = found + delta
        if "magnitude" not in self.parts:
            return found
        rows = found.T if self.transposed else found
        factors = self.parts["magnitude"].float().flatten() / torch.linalg.norm(rows, dim=1)
        scaled: torch.Tensor = factors.unsqueeze(1) * rows
        return scaled.T if self.transposed else scaled

    def _delta(self) -> torch.Tensor | None:
        """s·B·A in the layout of the base."""
        product: torch.Tensor
        if "a" in self.parts:
            product = self.parts["b"].float() @ self.parts["a"].float()
            product = product.T if self.transposed else product
        elif "embedding_a" in self.parts:
            product = (self.parts["embedding_b"].float() @ self.parts["embedding_a"].float()).T
        else:
            return None
        return product * self.scale

    def bound(self, base: torch.Tensor) -> torch.Tensor:
        """A bound on the intermediate results of each element: float32's errors grow with it."""
        found = base.float().abs()
        for first, second in (("b", "a"), ("embedding_b", "embedding_a")):
            if first in self.parts:
                size = self.parts[first].float().abs() @ self.parts[second].float().abs()
                turned = size.T if self.transposed or first == "embedding_b" else size
                found = found + turned * abs(self.scale)
        return found


def read_changes(adapter: Path) -> tuple[dict[str, Change], tuple[str, ...]]:
    """Tensor of the base → the change, and the adapter's own tensors that are not understood.

    Names are those of the model in memory. Raises HarnessError for files that cannot be read.
    """
    config = read_json_object(adapter / ADAPTER_CONFIG)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    changes: dict[str, Change] = {}
    unknown: list[str] = []
    for key, tensor in read_tensors(adapter / ADAPTER_FILE).items():
        name = key.removeprefix(_PREFIX)
        end = next((end for end in _PARTS if name.endswith(end)), "")
        if end:
            part = _PARTS[end]
            target = ".bias" if part == "bias" else ".weight"
            parts.setdefault(name.removesuffix(end) + target, {})[part] = tensor
        elif name.endswith(".base_layer.weight"):  # peft's copy of an adapted embedding's base
            continue
        elif ".lora_" in name or "_adapter" in name:
            unknown.append(name)
        else:  # modules_to_save
            changes[name] = Change(whole=tensor)
    turned = bool(config.get("fan_in_fan_out"))
    for target, own in parts.items():
        layer = target.rpartition(".")[0]
        changes[target] = Change(
            own, _scale(config, layer, own, parts), turned, _indices(config, layer)
        )
    return changes, tuple(unknown)


def _scale(
    config: Mapping[str, Any], layer: str, own: Mapping[str, Any], parts: Mapping[str, Any]
) -> float:
    factors = own if "bias" not in own else parts.get(f"{layer}.weight", own)
    first = factors.get("a", factors.get("embedding_a"))
    if first is None:
        return 1.0
    rank = int(first.shape[0])
    alpha = _of_pattern(config.get("alpha_pattern"), layer, config.get("lora_alpha", rank))
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _of_pattern(patterns: Any, layer: str, default: Any) -> Any:
    """peft's rule: the first pattern that a layer's name ends with."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            return value
    return default


def _indices(config: Mapping[str, Any], layer: str) -> tuple[int, ...]:
    given = config.get("trainable_token_indices")
    if isinstance(given, dict):
        given = next((ids for name, ids in given.items() if layer.endswith(name)), ())
    return tuple(given or ())
