"""A frozen base stored in four or eight bits by bitsandbytes: loaded, named and dequantised."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.extras import require
from harness.files import read_json_object

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Quantisation:
    """How the linear layers of a base are stored; False without quantisation.

    The fields have the names of transformers.
    """

    load_in_4bit: bool = False
    load_in_8bit: bool = False
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = True

    def __bool__(self) -> bool:
        return self.load_in_4bit or self.load_in_8bit

    def __str__(self) -> str:
        if self.load_in_8bit:
            return "int8"
        if not self.load_in_4bit:
            return ""
        return self.bnb_4bit_quant_type + "+double" * self.bnb_4bit_use_double_quant

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)

    def loading(self, device: str, dtype: str, folder: str) -> dict[str, Any]:
        """The arguments for transformers to quantise while it loads; empty without quantisation.

        Products are computed in ``dtype``. Raises HarnessError when a library is missing or does
        not know the device, and when the base is quantised already.
        """
        if not self:
            return {}
        if self.load_in_4bit and self.load_in_8bit:
            raise HarnessError("load_in_4bit and load_in_8bit exclude each other")
        for package in ("bitsandbytes", "accelerate"):
            require(package, "a quantised base")
        config = Path(folder) / "config.json"
        if config.is_file() and "quantization_config" in read_json_object(config):
            raise HarnessError(
                "this base is quantised already",
                where=folder,
                hint="leave load_in_4bit and load_in_8bit out",
            )
        import bitsandbytes
        import torch
        from transformers import BitsAndBytesConfig

        kind = device.split(":", maxsplit=1)[0]
        if kind not in bitsandbytes.supported_torch_devices:
            raise HarnessError(
                f"bitsandbytes {bitsandbytes.__version__} does not know the device {kind!r}",
                hint="load the base as it is, or use cuda or cpu",
            )
        settings = BitsAndBytesConfig(
            **self.as_dict(), bnb_4bit_compute_dtype=getattr(torch, dtype)
        )
        return {"quantization_config": settings, "device_map": {"": device}}


def settle(model: torch.nn.Module) -> None:
    """Make a quantised model compute the same before and after it was measured."""
    # int8: without this a line for every layer and call
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    _keep_one_layout(model)


def _keep_one_layout(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from repacking four-bit weights at the first run without gradients.

    On a CPU with AVX512_BF16 it would: scales are then rounded to bfloat16 for good, and a packed
    layer passes no gradient to the layers before it. A model that was measured during a run would
    then train another function, with dead lower layers (bitsandbytes 0.50, nn/modules.py,
    Linear4bit.forward).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010  # not in Module


def is_quantised(layer: torch.nn.Module) -> bool:
    """Whether a layer's weight is one of bitsandbytes'."""
    return type(getattr(layer, "weight", None)).__name__ in ("Params4bit", "Int8Params")


def dequantised(layer: Any) -> torch.Tensor:
    """The weight of a linear layer, dequantised where necessary, in float32 [out, in]."""
    import torch

    if not is_quantised(layer):
        weight: torch.Tensor = layer.weight.data
        return weight.float()
    import bitsandbytes.functional as F

    if type(layer.weight).__name__ == "Int8Params":
        scales = layer.state.SCB if layer.state.SCB is not None else layer.weight.SCB
        found: torch.Tensor = F.int8_vectorwise_dequant(layer.weight.data, scales)
        return found.float()
    state = layer.weight.quant_state
    # else the result is rounded to the dtype that was quantised
    stored, state.dtype = state.dtype, torch.float32
    try:
        whole: torch.Tensor = F.dequantize_4bit(layer.weight.data, state)
    finally:
        state.dtype = stored
    return whole
