"""Which engine runs a model's rows, and why: packs, padded rows or single rows.

The fastest is taken that equals the plain model. What the configuration does not say, a probe shows
(harness.backends.local.probe), once for a loaded model and only when the engine is used or named.
"""

from __future__ import annotations

from typing import Literal

from harness.backends.local.forward import copyable_parts
from harness.backends.local.limits import (
    attention_window,
    most_positions,
    rotation_turn,
    text_config,
)
from harness.backends.local.padded import arguments, cache_argument
from harness.backends.local.probe import (
    why_it_fails,
    why_not_cached,
    why_not_packed,
    why_not_padded,
)
from harness.errors import HarnessError
from harness.models import LoadedModel

RowEngine = Literal["padded rows", "single rows", "single rows without cache"]

#: Longer sequences run as rows of their own, without a mask of quadratic size.
MOST_PACKED = 1 << 14
#: A narrower window is not worth packs, and the rows of a probe do not fit into it.
_LEAST_PACKED = 12
_TAKES_A_BIAS = ("sdpa", "eager")
_LIKE_FULL = ("full_attention", "sliding_attention")


def longest_packed(loaded: LoadedModel) -> int:
    """The longest sequence that may run in a pack, in tokens; 0 where packs are wrong.

    Up to its window, sliding attention equals full attention. Up to the length at which longrope
    changes its factors, all rows share one rotation. The hand-written passes check each part of a
    model; packs that run through transformers' modules are probed.
    """
    return _packing(loaded)[0]


def row_engine(loaded: LoadedModel) -> RowEngine:
    """The engine for rows that are not packed.

    Some models carry padding on the left into their state, and some caches cannot drop a row. Such
    models run one row at a time. Where the cache itself is wrong or missing, they run without it.
    """
    return _rows(loaded)[0]


def describe(loaded: LoadedModel) -> str:
    """The name of the engine, and why each faster one is ruled out."""
    longest, why = _packing(loaded)
    name = ""
    if longest:
        name = "fast" if copyable_parts(loaded, longest) else "modules"
        if longest >= min(MOST_PACKED, most_positions(loaded)):
            return name
        name += f" up to {longest} tokens, then "
    rows, reasons = _rows(loaded)
    reasons = tuple(filter(None, (why, *reasons)))
    return f"{name}{rows}" + (f" ({'; '.join(reasons)})" if reasons else "")


def refuse_failing(loaded: LoadedModel) -> None:
    """Raise HarnessError for a model that fails on plain text, which is tried once.

    Some fail in 16 bits, or where their kernels for a GPU are missing.
    """
    if "fails" not in loaded.probed:
        loaded.probed["fails"] = why_it_fails(loaded)
    if why := loaded.probed["fails"]:
        raise HarnessError(
            f"{type(loaded.model).__name__} fails on plain text in {loaded.dtype}: {why}",
            where=loaded.name,
            hint="" if loaded.dtype == "float32" else "try --dtype float32",
        )


def _packing(loaded: LoadedModel) -> tuple[int, str]:
    """The longest packed sequence, and why it is 0."""
    longest = min(attention_window(loaded), rotation_turn(loaded), MOST_PACKED)
    if longest >= _LEAST_PACKED and copyable_parts(loaded, longest):
        return longest, ""
    if "packs" not in loaded.probed:
        loaded.probed["packs"] = _why_not_packed(loaded, longest)
    why: str = loaded.probed["packs"]
    return (0 if why else longest), why


def _why_not_packed(loaded: LoadedModel, longest: int) -> str:
    config = text_config(loaded)
    kinds = getattr(config, "layer_types", None) or ()
    other = sorted({kind for kind in kinds if kind not in _LIKE_FULL})
    if other:
        return f"it has layers of {', '.join(other)}"
    if getattr(loaded.base, "_is_stateful", False):
        return "it has a state"
    if longest < _LEAST_PACKED:
        return f"its window is of {longest} tokens"
    if config._attn_implementation not in _TAKES_A_BIAS:
        return f"{config._attn_implementation} attention takes no bias"
    if "position_ids" not in arguments(loaded) or not cache_argument(loaded):
        return "it takes no positions or no cache"
    return why_not_packed(loaded, longest)


def _rows(loaded: LoadedModel) -> tuple[RowEngine, tuple[str, ...]]:
    """The engine for rows that are not packed, and why each faster one is ruled out."""
    if "rows" not in loaded.probed:
        loaded.probed["rows"] = _probe_rows(loaded)
    found: tuple[RowEngine, tuple[str, ...]] = loaded.probed["rows"]
    return found


def _probe_rows(loaded: LoadedModel) -> tuple[RowEngine, tuple[str, ...]]:
    if not (padded := why_not_padded(loaded)):
        return "padded rows", ()
    if not (cached := why_not_cached(loaded)):
        return "single rows", (padded,)
    refuse_failing(loaded)
    return "single rows without cache", (padded, cached)
