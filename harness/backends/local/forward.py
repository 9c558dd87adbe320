"""Which arithmetic multiplies 16-bit weights faster here: their own, or float32.

Passes by the modules of transformers and peft, whatever they are: what harness.backends.local.llama_forward cannot stand for.

Passes of a model over packs and over single tokens of many rows: by hand where the model is plain, else by transformers' modules.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, Protocol

from harness.models import LoadedModel
from harness.models.logits import only_at

if TYPE_CHECKING:
    import torch

    from harness.models.llama.parts import Parts

#: Float32 must be so much faster.
_MARGIN = 1.2
_ROWS, _WIDTH = 128, 1024
_TIMES = 7


def matmul_dtype(loaded: LoadedModel) -> torch.dtype:
    """The dtype to multiply in: float32 where a CPU multiplies bfloat16 slower, else the model's own.

    That is so where bfloat16 products run on one port and float32 ones on two (AVX512_BF16 without AMX on some processors:
    84 against 150 GFLOP/s a core), and where they are emulated. The numbers multiplied are the same; results are rounded to 24 bits
    instead of 8. Told once a model, and written into checkpoints: a resumed run computes as it began.
    """
    import torch

    if not loaded.matmul_dtype:
        wide = loaded.dtype == "bfloat16" and loaded.device == "cpu" and _wide_is_faster()
        loaded.matmul_dtype = "float32" if wide else loaded.dtype
    chosen: torch.dtype = getattr(torch, loaded.matmul_dtype)
    return chosen


@functools.lru_cache(maxsize=1)
def _wide_is_faster() -> bool:
    """Timed in turn, the least processor time of several products of each: about 20 ms, whatever else the machine does."""
    import torch

    with torch.inference_mode():
        pairs = [(_seconds(torch.bfloat16), _seconds(torch.float32)) for _ in range(_TIMES)]
    return min(wide for _, wide in pairs) * _MARGIN < min(narrow for narrow, _ in pairs)


def _seconds(dtype: torch.dtype) -> float:
    import torch

    x, weight = torch.ones(_ROWS, _WIDTH, dtype=dtype), torch.ones(_WIDTH, _WIDTH, dtype=dtype)
    started = time.thread_time()
    torch.nn.functional.linear(x, weight)
    return time.thread_time() - started


class ModuleForward:
    """The interface is harness.backends.local.forward.Forward."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.model: Any = loaded.model
        self.cache: Any = None

    def reserve(self, slots: int, width: int) -> None:
        from harness.backends.local.slot_cache import SlotCache

        self.cache = SlotCache(slots, width)

    def packs(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        bias: torch.Tensor,
        wanted: torch.Tensor,
        kept: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        held: dict[str, Any] = {"use_cache": False}
        if kept is not None:
            self.cache.fill(*kept)
            held = {"past_key_values": self.cache, "use_cache": True}
        with only_at(self.model, wanted):
            logits: torch.Tensor = self.model(
                input_ids=ids, attention_mask=bias, position_ids=positions, **held
            ).logits[0]
        return logits

    def tokens(
        self, ids: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        self.cache.write(places, len(ids), bias.shape[-1])
        out = self.model(
            input_ids=ids.unsqueeze(1),
            attention_mask=bias,
            position_ids=positions.unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def move(self, to: torch.Tensor, since: torch.Tensor, reach: int) -> None:
        self.cache.move(to, since, reach)


#: Bytes of weights that may be copied for passes by hand. A larger model is run by transformers' modules, which copy none.
_COPIED = 4 * 2**30


class Forward(Protocol):
    """What decoding and scoring ask of a model. Called inside ``LoadedModel.inference``."""

    def reserve(self, slots: int, width: int) -> None:
        """Make room for the keys and values of ``slots`` rows of at most ``width`` tokens. Place ``slot · width + at`` is a token's."""

    def packs(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        bias: torch.Tensor,
        wanted: torch.Tensor,
        kept: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Logits [wanted, vocabulary] of packs (harness.backends.local.packing.tensors) at ``wanted``, indices into packs × longest.

        ``kept``: keys and values of the tokens in its first go to the places in its second.
        """
        ...

    def tokens(
        self, ids: torch.Tensor, positions: torch.Tensor, places: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Logits [rows, vocabulary] behind one new token of each row, which is kept at its place. ``bias`` [rows, 1, 1, reach] hides what is not a row's."""
        ...

    def move(self, to: torch.Tensor, since: torch.Tensor, reach: int) -> None:
        """Copy rows ``since`` to slots ``to``, as far as ``reach``."""


def forward_of(loaded: LoadedModel, longest: int) -> Forward:
    """The fastest passes that compute what the model does, for sequences of at most ``longest`` tokens.

    They hold the weights as they are now: ask anew when an adapter may have changed.
    """
    parts = plain_parts(loaded, longest)
    if parts is None:
        return ModuleForward(loaded)
    from harness.backends.local.llama_forward import LlamaForward

    return LlamaForward(parts, matmul_dtype(loaded))


def plain_parts(loaded: LoadedModel, longest: int = 1) -> Parts | None:
    """The model taken apart, or None if it is not a plain Llama-like one or too large to be copied."""
    from harness.models.llama.recognise import take_apart

    parts = take_apart(loaded, longest)
    if parts is None:
        return None
    weights = (
        sum(projection.weight.numel() for layer in parts.layers for projection in layer.projections)
        + parts.head.numel()
    )
    return parts if weights * matmul_dtype(loaded).itemsize <= _COPIED else None


def arithmetic(loaded: LoadedModel) -> str:
    """The dtype that the model's products are computed in."""
    return (
        loaded.dtype
        if plain_parts(loaded) is None
        else str(matmul_dtype(loaded)).removeprefix("torch.")
    )
