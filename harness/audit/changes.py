"""How a model's linear layers differ from those of its base, and how much that adds to an input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import HarnessError

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel


class Change(Protocol):
    """What was added to a linear layer."""

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """The squared length of what the change adds, for each row of x [tokens, in] in float32."""
        ...


@dataclass(frozen=True, slots=True)
class LowRank:
    """Scaling · B A of LoRA: A [rank, in], and Bᵀ B [rank, rank] with the scaling squared."""

    down: torch.Tensor
    gram: torch.Tensor

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """Through the Gram matrix, so that no output is computed."""
        inner = x @ self.down.t()
        return ((inner @ self.gram) * inner).sum(-1)


@dataclass(frozen=True, slots=True)
class Dense:
    """The difference of two weights [out, in]."""

    difference: torch.Tensor

    def added(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.difference.t()).square().sum(-1)


#: In the name of an attention layer.
_ATTENTION = "attn", "attention"


def adapter_changes(loaded: LoadedModel) -> dict[torch.nn.Module, Change]:
    """The linear layers that the model's adapter changes. The low rank counts, without DoRA's norm.

    Raises HarnessError where the adapter changes no linear layer.
    """
    import torch
    from peft.tuners.lora.layer import LoraLayer

    found: dict[str, tuple[torch.nn.Module, Change]] = {}
    for place, layer in loaded.model.named_modules():
        names = layer.active_adapters if isinstance(layer, LoraLayer) else []
        for name in names:
            down, up = (dict(getattr(layer, part)).get(name) for part in ("lora_A", "lora_B"))
            if isinstance(down, torch.nn.Linear) and isinstance(up, torch.nn.Linear):
                factor = up.weight.detach().float()
                gram = factor.t() @ factor * float(layer.scaling[name]) ** 2
                change = LowRank(down.weight.detach().float().cpu(), gram.cpu())
                found[place] = layer.base_layer, change
    return _some(found, loaded.adapter or loaded.name)


def merge_changes(merged: LoadedModel, base: LoadedModel) -> dict[torch.nn.Module, Change]:
    """The linear layers of ``base`` that differ in ``merged``.

    Raises HarnessError for models of different shapes, for weights in four bits, and where nothing
    differs.
    """
    import torch

    theirs = dict(merged.base.named_modules())
    found: dict[str, tuple[torch.nn.Module, Change]] = {}
    for name, layer in base.base.named_modules():
        if not isinstance(layer, torch.nn.Linear) or layer is base.base.get_output_embeddings():
            continue
        other = theirs.get(name)
        if not isinstance(other, torch.nn.Linear) or other.weight.shape != layer.weight.shape:
            raise HarnessError(
                f"{base.name} is not its base: {name} differs in shape or is missing",
                where=merged.name,
                hint="give the model that it was trained from as --base",
            )
        if not (other.weight.is_floating_point() and layer.weight.is_floating_point()):
            raise HarnessError(
                f"the weights of {name} are quantised", where=merged.name, hint="give 16-bit models"
            )
        difference = other.weight.detach().float().cpu() - layer.weight.detach().float().cpu()
        if difference.any():
            found[name] = layer, Dense(difference)
    return _some(found, merged.name)


def _some(
    found: Mapping[str, tuple[torch.nn.Module, Change]], where: str
) -> dict[torch.nn.Module, Change]:
    """Those outside attention, if there are any: they tell formats apart more surely."""
    if not found:
        raise HarnessError(
            "no linear layer differs from the base",
            where=where,
            hint="nothing was trained, or embeddings alone",
        )
    outside = [name for name in found if not any(part in name for part in _ATTENTION)]
    return dict(found[name] for name in outside or found)


class InputRecorder:
    """Hooks that keep the input of some layers at the last token of each pass.

    The model computes as before. A layer that sees a part of the tokens, as an expert does, has no
    input for every pass.
    """

    def __init__(self, layers: Iterable[torch.nn.Module]) -> None:
        self._kept: dict[torch.nn.Module, list[torch.Tensor]] = {layer: [] for layer in layers}
        self._hooks = [layer.register_forward_hook(self._hook) for layer in self._kept]

    def _hook(self, layer: torch.nn.Module, inputs: Any, _output: Any) -> None:
        x = inputs[0]
        if x.dim() == 3:  # [rows, tokens, in]; experts get [tokens, in]
            self._kept[layer].append(x[0, -1].detach().float().cpu())

    def close(self, passes: int) -> dict[torch.nn.Module, torch.Tensor]:
        """Remove the hooks; the inputs [passes, in] of each layer that saw all of them."""
        import torch

        for hook in self._hooks:
            hook.remove()
        return {
            layer: torch.stack(kept) for layer, kept in self._kept.items() if len(kept) == passes
        }
