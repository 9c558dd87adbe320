"""Refuses a configuration that describes far more than the files hold, before memory is taken.

With one digit more in config.json transformers builds a model of many times the size. It fills what
the files lack with random numbers, until the system ends the process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.models.source import ModelSource
from harness.models.tensor_files import check_tensors

#: Settings that are numbers of modules; transformers builds these in a loop.
_COUNTS = re.compile(r"(^|_)(layers?|blocks?|experts?|depths?)$")
#: Layers may share their tensors, so small files may have fewer tensors than layers.
_FEW = 1000
#: Weights that may be absent from the files: what is missing is then named, in a better message.
_ABSENT = 1 << 26
#: As much as the files hold once more, for a head that they share with the embedding.
_UNTIED = 2
#: Weights in an element of a packed tensor: two bits each in 32.
_PACKED = 16
#: Weights in a byte of a GGUF file: none takes less than a bit.
_PER_BYTE = 8
_HINT = "config.json is damaged, or belongs to another model"


@dataclass(frozen=True, slots=True)
class _Stored:
    """The tensors in a model's files, and at most how many weights they are."""

    tensors: int
    weights: int


def refuse_endless(config: Any, source: ModelSource) -> None:
    """Raise HarnessError for more layers or experts than the files can have.

    A model of a million layers takes hours to build, even without its weights.
    """
    stored = _stored(config, source)
    if stored is None:
        return
    for name, count in _counts(config.to_dict()):
        if count > max(_FEW, stored.tensors):
            raise HarnessError(
                f"{name} is {count:,}, and the files hold {stored.tensors:,} tensors",
                where=source.file,
                hint=_HINT,
            )


def refuse_oversize(on_meta: Any, config: Any, source: ModelSource) -> None:
    """Raise HarnessError for more weights than the files can hold.

    ``on_meta`` is the model of the configuration on the device "meta", where it takes no memory.
    """
    stored = _stored(config, source)
    described = sum(weights.numel() for weights in on_meta.parameters())
    if stored is not None and described > stored.weights + _ABSENT:
        raise HarnessError(
            f"the configuration describes {described:,} weights, and the files hold at most "
            f"{stored.weights:,}",
            where=source.file,
            hint=_HINT,
        )


def refuse_rank(settings: Mapping[str, Any], shapes: Iterable[tuple[int, ...]], where: str) -> None:
    """Raise HarnessError for a rank of an adapter that none of its tensors has."""
    largest = max((size for shape in shapes for size in shape), default=0)
    patterns = settings.get("rank_pattern") or {}
    ranks = [settings.get(name) for name in ("r", "init_r", "target_r", "num_vectors")]
    for rank in (*ranks, *(patterns.values() if isinstance(patterns, dict) else ())):
        if isinstance(rank, int) and rank > largest:
            raise HarnessError(
                f"the rank is {rank:,}, and the largest size of a tensor is {largest:,}",
                where=where,
                hint="adapter_config.json is damaged, or belongs to another adapter",
            )


def _stored(config: Any, source: ModelSource) -> _Stored | None:
    """What the files hold; None for a model of the hub that is not here yet."""
    if source.gguf:
        path = Path(source.path) / source.gguf
        with path.open("rb") as stream:
            tensors = int.from_bytes(stream.read(24)[8:16], "little")
        return _Stored(tensors, _PER_BYTE * path.stat().st_size)
    files = sorted(source.folder.glob("*.safetensors"))
    shapes = [shape for file in files for shape in check_tensors(file).values()]
    packed = getattr(config, "quantization_config", None) is not None
    weights = sum(math.prod(shape) for shape in shapes)
    return _Stored(len(shapes), weights * (_PACKED if packed else _UNTIED)) if shapes else None


def _counts(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The numbers of modules in a configuration and in those inside it."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _counts(value)
        elif isinstance(value, int) and _COUNTS.search(name):
            yield name, value
