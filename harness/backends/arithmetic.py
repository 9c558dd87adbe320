"""Which arithmetic multiplies 16-bit weights faster here: their own, or float32."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from harness.models import LoadedModel

if TYPE_CHECKING:
    import torch

#: Float32 must be so much faster.
_MARGIN = 1.2
_ROWS, _WIDTH = 128, 1024
_TIMES = 7


def products_in(loaded: LoadedModel) -> torch.dtype:
    """The dtype to multiply in: float32 where a CPU multiplies bfloat16 slower, else the model's own.

    That is so where bfloat16 products run on one port and float32 ones on two (AVX512_BF16 without AMX on some processors:
    84 against 150 GFLOP/s a core), and where they are emulated. The numbers multiplied are the same; results are rounded to 24 bits
    instead of 8. Told once a model, and written into checkpoints: a resumed run computes as it began.
    """
    import torch

    if not loaded.products:
        wide = loaded.dtype == "bfloat16" and loaded.device == "cpu" and _wide_is_faster()
        loaded.products = "float32" if wide else loaded.dtype
    chosen: torch.dtype = getattr(torch, loaded.products)
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
