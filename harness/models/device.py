"""Where a model runs and in which precision it computes, where the user does not say."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from harness.models.loaded import LoadedModel

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

#: Float32 is taken when it is faster by this factor.
_MARGIN = 1.2
#: The timed product: [128, 1024] × [1024, 1024].
_ROWS, _WIDTH = 128, 1024
_TIMES = 7


def pick_device() -> str:
    """``cuda``, ``mps`` or ``cpu``, the first that is there."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(device: str) -> str:
    """bfloat16 where the device multiplies it natively, else float32."""
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if device == "cpu":
        capabilities = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
        native = _cpu_flag("_is_avx512_bf16_supported") or _cpu_flag("_is_amx_tile_supported")
        return "bfloat16" if native and "AVX512" in capabilities else "float32"
    return "float32"


def _cpu_flag(name: str) -> bool:
    import torch

    return bool(getattr(torch.cpu, name, lambda: False)())


def matmul_dtype(loaded: LoadedModel) -> torch.dtype:
    """The dtype in which hand-written forward passes multiply.

    It is float32 where a CPU multiplies bfloat16 slower, else the model's own. Some processors with
    AVX512_BF16 and without AMX run bfloat16 products on one port and float32 ones on two (84 and
    150 GFLOP/s a core); others emulate bfloat16. The numbers multiplied are the same; results are
    rounded to 24 bits instead of 8. Decided once for a model and written into checkpoints, so that
    a resumed run computes as it began.
    """
    import torch

    if not loaded.matmul_dtype:
        wide = loaded.dtype == "bfloat16" and loaded.device == "cpu" and _float32_is_faster()
        loaded.matmul_dtype = "float32" if wide else loaded.dtype
    chosen: torch.dtype = getattr(torch, loaded.matmul_dtype)
    return chosen


@functools.lru_cache(maxsize=1)
def _float32_is_faster() -> bool:
    """Compare the least processor time of several products of each kind, timed in turn (20 ms)."""
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
