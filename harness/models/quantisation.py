"""How a base's weights are stored: quantised by us, quantised in its files, or dequantised.

Four and eight bits of bitsandbytes are kept as they are, whether they were stored in the folder or
are made while it loads. FP8 and MXFP4 files are dequantised. Files of other methods are refused:
their kernels run on few devices, and none was compared with the plain model here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.extras import require
from harness.models.tensor_files import check_tensors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig


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


#: Methods whose files transformers dequantises while they load.
_DEQUANTISED = ("fp8", "mxfp4")


@dataclass(frozen=True)
class Storage:
    """How a base is stored in memory, and the arguments that make transformers load it so."""

    quantisation: Quantisation
    arguments: dict[str, Any]
    stored_as: str = ""
    """The method of the files, when they are dequantised."""
    block: tuple[int, ...] | None = None
    """The shape of the blocks of FP8 that share a scale."""


def choose_storage(
    config: PreTrainedConfig, asked: Quantisation, device: str, dtype: str, where: str
) -> Storage:
    """How to store the base that a configuration describes. Products are computed in ``dtype``.

    Changes what the configuration says of weights that are quantised in their files: ours is the
    compute dtype, and FP8 and MXFP4 are dequantised. Raises HarnessError when a library is missing
    or does not know the device, and when what was asked for differs from how the files are stored.
    """
    if asked.load_in_4bit and asked.load_in_8bit:
        raise HarnessError("load_in_4bit and load_in_8bit exclude each other")
    header = _header(config)
    method = _method(header)
    stored = _of_bitsandbytes(header) if method == "bitsandbytes" else Quantisation()
    if header and asked and str(asked) != str(stored):
        raise HarnessError(
            f"this base is quantised already ({str(stored) or method})",
            where=where,
            hint="leave load_in_4bit and load_in_8bit out",
        )
    if method == "bitsandbytes":
        _require_bitsandbytes(device)
        header["bnb_4bit_compute_dtype"] = dtype
        return Storage(stored, {"device_map": {"": device}})
    if method in _DEQUANTISED:
        require("accelerate", f"a base stored in {method}", where)
        header["dequantize"] = True
        block = header.get("weight_block_size")
        return Storage(asked, {}, method, tuple(block) if block else None)
    if header:
        raise HarnessError(
            f"its weights are quantised by {method}, which is not supported",
            where=where,
            hint="give the unquantised model, or serve this one and give --endpoint",
        )
    if not asked:
        return Storage(asked, {})
    import torch
    from transformers import BitsAndBytesConfig

    _require_bitsandbytes(device)
    settings = BitsAndBytesConfig(**asked.as_dict(), bnb_4bit_compute_dtype=getattr(torch, dtype))
    return Storage(asked, {"quantization_config": settings, "device_map": {"": device}})


def gguf_arguments(file: str) -> dict[str, Any]:
    """The arguments that make transformers dequantise a GGUF file.

    Newer ones would else keep its blocks where the hub has a kernel for the device, and run that.
    """
    import transformers

    arguments: dict[str, Any] = {"gguf_file": file}
    if hasattr(transformers, "GgufConfig"):
        arguments["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return arguments


def _header(config: PreTrainedConfig) -> dict[str, Any]:
    """A configuration's quantization_config; of its language model where the whole has none."""
    for part in (config, config.get_text_config()):
        found = getattr(part, "quantization_config", None)
        if isinstance(found, dict) and found:
            return found
    return {}


def _method(header: dict[str, Any]) -> str:
    if header.get("load_in_4bit") or header.get("load_in_8bit"):  # old files name no method
        return "bitsandbytes"
    return str(header.get("quant_method", "an unnamed method")) if header else ""


def _of_bitsandbytes(header: dict[str, Any]) -> Quantisation:
    """How bitsandbytes stored the files; its own default where the header says nothing."""
    if header.get("load_in_8bit"):
        return Quantisation(load_in_8bit=True)
    return Quantisation(
        load_in_4bit=True,
        bnb_4bit_quant_type=header.get("bnb_4bit_quant_type", "fp4"),
        bnb_4bit_use_double_quant=bool(header.get("bnb_4bit_use_double_quant", False)),
    )


def _require_bitsandbytes(device: str) -> None:
    for package in ("bitsandbytes", "accelerate"):
        require(package, "a quantised base")
    import bitsandbytes

    kind = device.split(":", maxsplit=1)[0]
    if kind not in bitsandbytes.supported_torch_devices:
        raise HarnessError(
            f"bitsandbytes {bitsandbytes.__version__} does not know the device {kind!r}",
            hint="load the base as it is, or use cuda or cpu",
        )


def refuse_odd_blocks(folder: Path, block: Sequence[int] | None) -> None:
    """Raise HarnessError for an FP8 weight that its blocks do not divide.

    transformers (5.23, Fp8Dequantize) takes the shape of the table of scales for the number of
    whole blocks, and multiplies by wrong scales where the last block is a part.
    """
    if not block:
        return
    for file in sorted(folder.glob("*.safetensors")):
        shapes = check_tensors(file)
        for name, (rows, columns) in _matrices(shapes):
            scales = shapes.get(f"{name}_scale_inv", ())
            if len(scales) == 2 and any(
                count > 1 and size != count * step
                for size, count, step in zip((rows, columns), scales, block, strict=True)
            ):
                raise HarnessError(
                    f"{name}: FP8 blocks of {list(block)} do not divide [{rows}, {columns}]",
                    where=str(file),
                    hint="give the unquantised model",
                )


def _matrices(shapes: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Sequence[int]]]:
    return ((name, shape) for name, shape in shapes.items() if len(shape) == 2)


def settle(model: Any) -> None:
    """Make a quantised model compute the same before and after it was measured."""
    # save_pretrained would undo how the files were read, and quantise again
    model._weight_conversions = None
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
