"""How a model's linear layers differ from its base's, and how much that adds to their output."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import HarnessError
from harness.models.architecture import linear_layers, linear_size, linear_weight

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel


class LayerChange(Protocol):
    """What was added to a linear layer."""

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """The squared length of what the change adds, for each row of x [tokens, in] in float32."""
        ...


@dataclass(frozen=True, slots=True)
class LowRank:
    """LoRA's change, scaling · B A: A [rank, in], and scaling² · Bᵀ B [rank, rank]."""

    down: torch.Tensor
    gram: torch.Tensor

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """Through the Gram matrix, so that no output is computed."""
        inner = x @ self.down.t()
        return ((inner @ self.gram) * inner).sum(-1)


@dataclass(frozen=True, slots=True)
class Dense:
    """The difference of the weights of two layers.

    It is computed when it is used: the differences of all layers in float32 would take as much
    memory as both models in 16 bits.
    """

    changed: torch.nn.Module
    before: torch.nn.Module

    def difference(self) -> torch.Tensor:
        """[out, in] in float32."""
        return linear_weight(self.changed).cpu() - linear_weight(self.before).cpu()

    def added(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.difference().t()).square().sum(-1)


#: From this ratio of |W′ − W|² to |W|² on, two models are unrelated: independent weights have 2.
_UNRELATED = 1.0
#: In the name of an attention layer.
_ATTENTION = "attn", "attention"


def adapter_changes(loaded: LoadedModel) -> dict[torch.nn.Module, LayerChange]:
    """The linear layers that the model's adapter changes, without DoRA's norm.

    Raises HarnessError if the adapter changes no linear layer.
    """
    import torch
    from peft.tuners.lora.layer import LoraLayer

    linear = set(linear_layers(loaded.base).values())
    found: dict[torch.nn.Module, LayerChange] = {}
    for layer in loaded.base.modules():
        base: Any = layer.get_base_layer() if isinstance(layer, LoraLayer) else None
        for name in layer.active_adapters if base in linear else []:
            down, up = (dict(getattr(layer, part)).get(name) for part in ("lora_A", "lora_B"))
            if isinstance(down, torch.nn.Linear) and isinstance(up, torch.nn.Linear):
                factor = up.weight.detach().float()
                gram = factor.t() @ factor * float(layer.scaling[name]) ** 2
                if gram.any():
                    found[base] = LowRank(down.weight.detach().float().cpu(), gram.cpu())
    return _some(found, "the adapter changes no linear layer", loaded.adapter or loaded.name)


def merge_changes(merged: LoadedModel, base: LoadedModel) -> dict[torch.nn.Module, LayerChange]:
    """The linear layers of ``base`` that differ in ``merged``.

    Raises HarnessError for models of different shapes, for weights that have nothing in common, and
    if no layer differs.
    """
    theirs, ours = linear_layers(merged.base), linear_layers(base.base)
    found_sizes, sizes = (
        {name: linear_size(layer) for name, layer in layers.items()} for layers in (theirs, ours)
    )
    for name in dict.fromkeys([*sizes, *found_sizes]):
        if found_sizes.get(name) != sizes.get(name):
            raise _other_base(merged, base, f"{name} differs in shape or is missing")
    found: dict[torch.nn.Module, LayerChange] = {}
    moved, size = 0.0, 0.0
    for name, layer in ours.items():
        change = Dense(theirs[name], layer)
        difference = change.difference()
        moved += float(difference.square().sum())
        size += float(linear_weight(layer).square().sum())
        if difference.any():
            found[layer] = change
    if moved >= _UNRELATED * size:
        raise _other_base(merged, base, "their weights have nothing in common")
    return _some(found, "no linear layer differs from the base", merged.name)


def _other_base(merged: LoadedModel, base: LoadedModel, why: str) -> HarnessError:
    return HarnessError(
        f"{base.name} is not its base: {why}",
        where=merged.name,
        hint="give the model that it was trained from as --base",
    )


def _some(
    found: dict[torch.nn.Module, LayerChange], refusal: str, where: str
) -> dict[torch.nn.Module, LayerChange]:
    if not found:
        hint = "nothing was trained, or only embeddings, experts or the output embedding"
        raise HarnessError(refusal, where=where, hint=hint)
    return found


def outside_attention(
    loaded: LoadedModel, layers: Collection[torch.nn.Module]
) -> list[torch.nn.Module]:
    """The layers outside attention, which tell formats apart best; without any, all layers."""
    names = {layer: name for name, layer in loaded.base.named_modules()}
    found = [layer for layer in layers if not any(part in names[layer] for part in _ATTENTION)]
    return found or list(layers)


class InputRecorder:
    """Hooks that keep the input of some layers at the last token of each pass.

    The model computes as before. A layer that sees only a part of the tokens, such as an expert, is
    left out.
    """

    def __init__(self, layers: Iterable[torch.nn.Module]) -> None:
        self._kept: dict[torch.nn.Module, list[torch.Tensor]] = {layer: [] for layer in layers}
        self._seen: dict[torch.nn.Module, list[int]] = {layer: [] for layer in self._kept}
        self._hooks = [layer.register_forward_hook(self._hook) for layer in self._kept]

    def _hook(self, layer: torch.nn.Module, inputs: Any, _output: Any) -> None:
        x = inputs[0].flatten(0, -2)  # some models concatenate the rows before a layer
        self._seen[layer].append(len(x))
        self._kept[layer].append(x[-1:].detach().float().cpu())

    def close(self, lengths: Sequence[int]) -> dict[torch.nn.Module, torch.Tensor]:
        """Remove the hooks. Returns the inputs [passes, in] of each layer that saw all tokens."""
        import torch

        for hook in self._hooks:
            hook.remove()
        return {
            layer: torch.cat(kept)
            for layer, kept in self._kept.items()
            if self._seen[layer] == list(lengths)
        }
