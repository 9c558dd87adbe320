"""Where a model runs and in which precision, when the user leaves it to us."""

from __future__ import annotations

from typing import Literal

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


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
