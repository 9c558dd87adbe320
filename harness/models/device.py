"""Devices: which one a model runs on, in which precision, and how much memory it has."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import HarnessError
from harness.files import write_text
from harness.models.digest import cache_dir

if TYPE_CHECKING:
    import torch

    from harness.models.loaded import LoadedModel

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
DeviceMap = Literal["", "auto", "balanced", "balanced_low_0", "sequential"]
"""How accelerate lays a model over several devices; "" for a model on one."""

#: Float32 is taken when it is faster by this factor.
_MARGIN = 1.2
#: The timed product: [128, 1024] × [1024, 1024].
_ROWS, _WIDTH = 128, 1024
_TIMES = 7
#: What torch and the drivers say where memory ends, besides ``torch.OutOfMemoryError``: the CPU's
#: allocator, MPS, cuBLAS and cuDNN, which allocate their own work space.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def pick_device() -> str:
    """``cuda``, ``mps`` or ``cpu``, the first that is there."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(asked: str) -> str:
    """The device that a user names; ``auto`` is the first that is there.

    Raises HarnessError for a name that torch does not know and for a device that is not there.
    """
    if asked == "auto":
        return pick_device()
    import torch

    kind, _, number = asked.partition(":")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cpu": 1, "mps": int(torch.backends.mps.is_available()), "cuda": cards}
    if kind not in there or (number and not (kind == "cuda" and number.isdigit())):
        raise HarnessError(
            f"unknown device {asked!r}", hint="give auto, cpu, cuda, mps, or a card such as cuda:1"
        )
    if int(number or 0) >= there[kind]:
        names = [f"cuda:{card}" for card in range(cards)] + ["mps"] * there["mps"]
        raise HarnessError(f"no device {asked} here", hint=f"there is {', '.join(['cpu', *names])}")
    return asked


def pick_dtype(device: str) -> Literal["bfloat16", "float32"]:
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
    return bool(measured_once({"what": "float32 is faster", **machine("cpu")}, _compare_products))


def _compare_products() -> float:
    import torch

    with torch.inference_mode():
        pairs = [(_seconds(torch.bfloat16), _seconds(torch.float32)) for _ in range(_TIMES)]
    return float(min(wide for _, wide in pairs) * _MARGIN < min(narrow for narrow, _ in pairs))


def _seconds(dtype: torch.dtype) -> float:
    import torch

    x, weight = torch.ones(_ROWS, _WIDTH, dtype=dtype), torch.ones(_WIDTH, _WIDTH, dtype=dtype)
    started = time.thread_time()
    torch.nn.functional.linear(x, weight)
    return time.thread_time() - started


def total_bytes(device: str) -> int | None:
    """The whole memory of a device in bytes, or None where it is unknown."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    limit = Path("/sys/fs/cgroup/memory.max")  # a container may have less than its machine
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    return min(machine, int(text)) if text.isdigit() else machine


def free_bytes(device: str) -> int:
    """The free memory of a device, in bytes.

    On CUDA what torch holds and does not use is free too.
    """
    import torch

    if device.startswith("cuda"):
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    table = Path("/proc/meminfo")
    if table.is_file():
        rows = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def describe_memory(device: str) -> str:
    """The free and the whole memory of a device, in words."""
    total = total_bytes(device)
    of = f" of {total / 2**30:.1f} GiB" if total else ""
    return f"{device}: {free_bytes(device) / 2**30:.1f} GiB{of} free"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory is used up."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def release(device: str) -> None:
    """Give back what is no longer used, after an error whose traceback held tensors."""
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def machine(device: str) -> dict[str, str]:
    """What the speed of a device depends on, besides the work."""
    import platform

    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    if device == "cpu":
        capabilities = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
        name += f" {capabilities} {platform.node()}"
    return {"device": name, "threads": str(torch.get_num_threads()), "torch": torch.__version__}


def measured_once(facts: dict[str, str], measure: Callable[[], float]) -> float:
    """A figure that was timed on this machine for the same ``facts``, else ``measure()``.

    It is kept in the cache folder, so that runs on one machine compute in the same way, and with
    the same bits, although two timings are never equal.
    """
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    entry = cache_dir() / "measured" / f"{name}.json"
    try:
        return float(json.loads(entry.read_text(encoding="utf-8"))["value"])
    except (OSError, ValueError, TypeError, KeyError):  # none there, or damaged: measure again
        value = measure()
    with contextlib.suppress(OSError, HarnessError):  # a read-only home: it is measured each time
        write_text(entry, json.dumps({**facts, "value": value}))
    return value


def takes_heads(width: int, capability: tuple[int, int]) -> bool:
    """Whether a card of this compute capability runs the kernel on heads of this width.

    Backward passes of heads wider than 192 need the shared memory of data-centre cards (8.0, 9.0,
    10.0, 10.3), as PyTorch's own choice of kernels has it.
    """
    widest = 256 if capability in ((8, 0), (9, 0), (10, 0), (10, 3)) else 192
    return capability[0] >= 8 and width % 8 == 0 and width <= widest
