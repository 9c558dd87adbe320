"""Which weights get LoRA factors: the linear layers of the text decoder, or those that are named.

peft's own "all-linear" also adapts routers and vision towers, and cannot merge what it makes of
experts. The list here is made before anything is trained, on the loaded model or on one without
weights (torch's meta device), so that the memory estimate counts what a run trains.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, nearest
from harness.models import quiet
from harness.models.architecture import is_linear, linear_size
from harness.training.config import AdapterConfig

if TYPE_CHECKING:
    import torch

ALL_LINEAR = "all-linear"
#: Layers that are a product with their weight and nothing else: torch's, GPT-2's, bitsandbytes'.
_LINEAR = ("Linear", "FalconLinear", "Conv1D", "Linear4bit", "Linear8bitLt")
#: Parts for pictures and sound, which some models keep inside their decoder.
_OTHER_SENSES = re.compile(r"(^|[._])(image|img|vision|visual|video|audio|speech)([._]|$)")
_EMBEDDING = "an embedding"
_OUTSIDE = "outside the text decoder"
#: Kinds of weights that are printed before the rest of a reason is only counted.
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Target:
    """A weight that can get two factors, of ``rank`` × ``inputs`` and ``outputs`` × ``rank``.

    With ``parameter``, peft adds the factors' product to that weight of the module, and ``copies``
    experts in it have factors each. Without, it computes the factors beside the module.
    """

    module: str
    inputs: int
    outputs: int
    parameter: str = ""
    copies: int = 1
    excluded: str = ""
    """Why it is left out unless it is named."""
    refused: bool = False
    """Whether it cannot be adapted even if it is named."""

    @property
    def name(self) -> str:
        """The full name of the module or parameter."""
        return f"{self.module}.{self.parameter}" if self.parameter else self.module

    @property
    def suffix(self) -> str:
        """The name without its layer: ``self_attn.q_proj``."""
        inner = re.split(r"\.\d+\.", self.name.removesuffix(".weight"), maxsplit=1)[-1]
        return re.sub(r"\.\d+\b", ".*", inner)

    def factors(self, rank: int, *, dora: bool = False) -> int:
        """Number of weights that are trained: both factors, and DoRA's magnitudes."""
        return rank * self.copies * (self.inputs + self.outputs) + self.outputs * dora


@dataclass(frozen=True, slots=True)
class TargetList:
    """The weights that are adapted, and the others that might be."""

    chosen: tuple[Target, ...]
    others: tuple[Target, ...] = ()

    def lines(self) -> Iterator[str]:
        """What is adapted and what is not, as kinds of weights with their numbers."""
        yield f"LoRA on {_kinds(self.chosen)}"
        yield from self.left_out()

    def left_out(self) -> Iterator[str]:
        """What is not adapted, a line for each reason."""
        reasons = dict.fromkeys(target.excluded for target in self.others)
        for reason in [reason for reason in reasons if reason not in ("", _EMBEDDING)]:
            yield f"no LoRA ({reason}): " + _kinds(
                [target for target in self.others if target.excluded == reason], _SHOWN
            )


def _kinds(targets: Sequence[Target], shown: int | None = None) -> str:
    """``self_attn.q_proj (2), self_attn.k_proj (2)``"""
    counts = Counter(target.suffix for target in targets).most_common()
    listed = ", ".join(f"{suffix} ({count})" for suffix, count in counts[:shown])
    more = sum(count for _, count in counts[len(counts[:shown]) :])
    return listed + (f", … ({more} more)" if more else "")


def find_targets(model: Any, config: AdapterConfig, *, quantised: bool = False) -> TargetList:
    """The weights of a base that an adapter with these settings trains.

    "all-linear" selects each linear layer of the text decoder except routers and experts. A name
    (``q_proj``, ``experts``, ``vision_tower``) selects every layer whose full name contains it as a
    part. Layers of "all-linear" take precedence: others are selected only if none of those matches.
    Raises HarnessError for a name that matches no layer, and for what cannot be trained and merged.
    """
    known = tuple(_candidates(model, quantised))
    given = config.lora_target_modules
    chosen = {
        target
        for name in ((given,) if isinstance(given, str) else given)
        for target in _named(name, known)
    }
    in_order = tuple(target for target in known if target in chosen)
    _check(model, in_order, config)
    return TargetList(in_order, tuple(target for target in known if target not in chosen))


def _named(name: str, known: Sequence[Target]) -> list[Target]:
    """The weights that a name selects. Raises HarnessError when it selects none."""
    where = "adapter.lora_target_modules"
    if name == ALL_LINEAR:
        if usual := [target for target in known if not target.excluded]:
            return usual
        kinds = "; ".join(TargetList((), tuple(known)).left_out())
        raise HarnessError(
            f"no linear layer of this model can be adapted: {kinds or 'it has none'}", where
        )
    pattern = re.compile(rf"(^|\.){re.escape(name)}(\.|$)")
    having = [target for target in known if pattern.search(target.name)]
    usual = [target for target in having if not target.excluded]
    usable = usual or [target for target in having if not target.refused]
    if not usable and having:
        raise HarnessError(f"{name!r} cannot be adapted: {having[0].excluded}", where)
    if not usable:
        last = {target.name.rpartition(".")[2] for target in known if not target.refused}
        raise HarnessError(f"no layer is called {name!r}", where, hint=nearest(name, last))
    return usable


def _check(model: Any, chosen: Sequence[Target], config: AdapterConfig) -> None:
    """Refuse settings under which peft cannot train these weights."""
    added = next((target for target in chosen if target.parameter), None)
    unfit = {"lora_dropout": config.lora_dropout, "use_dora": config.use_dora}
    for setting, value in unfit.items():
        if added and value:
            raise HarnessError(
                f"adapter.{setting}: peft does not support it on {added.suffix}",
                hint=f"leave out {setting}, or the name of that layer",
            )
    head = model.get_output_embeddings()
    if config.train_control_tokens and getattr(head, "bias", None) is not None:
        raise HarnessError(
            "adapter.train_control_tokens: the output embedding of this model has a bias, which "
            "peft drops where tokens are trained",
            hint="train in formats whose control tokens the model has, without this setting",
        )
    heads = [target for target in chosen if model.get_submodule(target.module) is head]
    if heads and config.train_control_tokens:
        raise HarnessError(
            f"adapter.train_control_tokens: peft cannot adapt {heads[0].name} beside it",
            hint="leave one of the two out",
        )


def _candidates(model: Any, quantised: bool) -> Iterator[Target]:
    """Every linear layer, embedding and stack of experts, in the model's order."""
    import torch

    layers = [name for name, module in model.named_modules() if is_linear(module)]
    taken = _taken_names(model, layers)
    renamed = _renamed(model, [name for name in layers if name.rpartition(".")[2] not in taken])
    decoder = _decoder_prefix(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding):
            size = (module.num_embeddings, module.embedding_dim)
            yield Target(name, *size, excluded=_EMBEDDING, refused=True)
        elif is_linear(module):
            inputs, outputs = linear_size(module)
            reason, refused = _why_not(model, name, module, decoder)
            parameter = ""
            if not reason and name.rpartition(".")[2] in taken:
                parameter, refused = "weight", quantised
                reason = "peft takes these names for the experts'"
            elif not reason and name in renamed:
                reason, refused = "peft loads their factors under another name", True
            yield Target(
                name, inputs, outputs, parameter=parameter, excluded=reason, refused=refused
            )
        else:
            yield from _experts(name, module)


def _experts(name: str, module: torch.nn.Module) -> Iterator[Target]:
    """The weights of a module that hold all experts of a layer: [experts, …, …]."""
    if "expert" not in f"{name}.{type(module).__name__}".lower():
        return
    for parameter, weight in module.named_parameters(recurse=False):
        if weight.ndim == 3:
            copies, inputs, outputs = weight.shape
            plain = weight.is_floating_point() and weight.element_size() > 1
            reason = "experts" if plain else f"experts in {weight.dtype}"
            yield Target(name, inputs, outputs, parameter, copies, reason, not plain)


def _why_not(model: Any, name: str, module: torch.nn.Module, decoder: str) -> tuple[str, bool]:
    """Why a linear layer is not among "all-linear", and whether it can never be adapted."""
    parent, _, leaf = name.rpartition(".")
    owner: Any = type(model.get_submodule(parent))
    read = _read_directly(owner)
    kind = type(module).__name__
    parts = name.removeprefix(decoder).split(".")
    gates = (part == "gate" or "router" in part.split("_") for part in parts)
    reasons = (
        (kind not in _LINEAR, f"{kind} is not a plain product", True),
        (leaf in read, "transformers reads their weights past an adapter", True),
        (module is model.get_output_embeddings(), "output embedding", False),
        (not name.startswith(decoder) or _reads_pictures(model, name), _OUTSIDE, False),
        ("indexer" in parts, "an indexer picks keys, and gets no gradient", True),
        (any(gates) or leaf.endswith("expert_gate"), "router", False),
        (re.search(r"\.experts\.\d+\.", name), "experts", False),
    )
    found = ((reason, refused) for applies, reason, refused in reasons if applies)
    return next(found, ("", False))


def _reads_pictures(model: Any, name: str) -> bool:
    """Whether a layer works on pictures or sound, or belongs to a block that does (Mllama)."""
    parts = name.split(".")
    blocks = (model.get_submodule(".".join(parts[:end])) for end in range(1, len(parts)))
    return bool(_OTHER_SENSES.search(name)) or any(
        "CrossAttentionDecoderLayer" in type(block).__name__ for block in blocks
    )


def _decoder_prefix(model: Any) -> str:
    """The names of all parts of the text decoder begin with this: ``model.language_model.``"""
    decoder = model.get_decoder()
    if decoder is model.get_output_embeddings():  # ModernBERT calls its head so
        decoder = model.base_model
    name = next((name for name, module in model.named_modules() if module is decoder), "")
    return name and f"{name}."


@functools.cache
def _read_directly(kind: type) -> frozenset[str]:
    """Names of the layers whose weight a module's own code reads, so that factors have no effect.

    State-space mixers pass the weights of some projections to a fused kernel.
    """
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return frozenset()
    if "pretraining_tp" in source:  # BLOOM, to imitate the sums of its training; off by default
        return frozenset()
    return frozenset(re.findall(r"self\.(\w+)\.weight\b(?!\.(?:dtype|device)\b)", source))


def _taken_names(model: Any, layers: Iterable[str]) -> frozenset[str]:
    """Last parts of the names of these layers that peft would turn into those of experts.

    transformers 4 called the projections of each expert so, and peft still reads adapters of that
    time. Dense layers of the same name cannot be adapted as modules then.
    """
    with quiet():
        from peft import LoraConfig
        from peft.utils.transformers_weight_conversion import (
            convert_peft_config_for_transformers as convert,
        )
    taken = set()
    for leaf in {name.rpartition(".")[2] for name in layers}:
        trial = LoraConfig(target_modules=[leaf])
        try:
            convert(trial, model=model, conversions=None)
        except ValueError:  # it is fused with another one
            taken.add(leaf)
            continue
        if leaf not in (trial.target_modules or ()):
            taken.add(leaf)
    return frozenset(taken)


def _renamed(model: Any, layers: Iterable[str]) -> frozenset[str]:
    """Those of the layers whose stored factors peft would not find again.

    To a stored adapter it applies the renamings by which transformers reads old model folders. Some
    also match the new name (``mlp.shared_expert.`` in ``mlp.shared_experts.down_proj``).
    """
    import torch

    with quiet():
        from peft import LoraConfig
        from peft.utils.transformers_weight_conversion import (
            convert_peft_adapter_state_dict_for_transformers as convert,
        )
    stored = {f"base_model.model.{name}.lora_A.weight": name for name in layers}
    nothing = dict.fromkeys(stored, torch.empty(1, 1))
    found = convert(model, LoraConfig(target_modules=["lora"]), nothing)
    return frozenset(name for key, name in stored.items() if key not in found)
