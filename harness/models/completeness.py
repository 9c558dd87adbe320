"""Refuses a base whose configuration and files do not fit, before and after its weights are read.

transformers fills a gap with random numbers and says so in its log only. A report measured on such
a model is worthless, and looks like any other. Where one digit more in config.json describes a
model of a thousand times the size, the random numbers fill the memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.models.source import ModelSource
from harness.models.tensor_files import check_tensors

#: Causal masks and rotary tables, which old files store and today's classes compute.
_COMPUTED = re.compile(r"(^|\.)((attn|attention)\.(bias|masked_bias|causal_mask)|inv_freq)$")
_NAMED = 3
#: Settings that are numbers of modules; transformers builds the modules in a loop.
_COUNTS = re.compile(r"(^|_)(layers?|blocks?|experts?|depths?)$")
#: More modules than this are compared with the number of tensors. Fewer may share their tensors.
_MANY = 1000
#: The most weights for each element of a safetensors file: a byte may hold two weights of four
#: bits, and a head may share the tensor of the embedding.
_PER_ELEMENT = 4
#: The most weights for each byte of a GGUF file: no type takes less than one bit.
_PER_BYTE = 8
#: This number of missing weights takes little memory: they are named once the rest is read.
_FEW_WEIGHTS = 1 << 26
_DAMAGED = "config.json is damaged, or belongs to another model"


def refuse_too_many_modules(config: Any, source: ModelSource) -> None:
    """Raise HarnessError for more layers or experts than the model's files have tensors.

    A model of a million layers takes hours to build, even without its weights.
    """
    for name, count in _counts(config.to_dict()):
        if count <= _MANY:
            continue
        tensors = _tensors(source)
        if tensors is not None and count > tensors:
            raise HarnessError(
                f"{name} is {count:,}, and the files hold {tensors:,} tensors",
                where=source.file,
                hint=_DAMAGED,
            )


def refuse_too_many_weights(on_meta: Any, source: ModelSource) -> None:
    """Raise HarnessError for more weights than the model's files can hold.

    ``on_meta`` is the model of the configuration on the device "meta", where it takes no memory.
    """
    described = sum(weights.numel() for weights in on_meta.parameters())
    if source.gguf:
        most = _PER_BYTE * Path(source.file).stat().st_size
    else:
        shapes = _shapes(source)
        if not shapes:  # of the hub, and not here yet
            return
        most = _PER_ELEMENT * sum(map(math.prod, shapes))
    if described > most + _FEW_WEIGHTS:
        raise HarnessError(
            f"the configuration describes {described:,} weights, and the files hold at most "
            f"{most:,}",
            where=source.file,
            hint=_DAMAGED,
        )


def _tensors(source: ModelSource) -> int | None:
    """The number of tensors in the model's files; None for a model that is not here yet."""
    if source.gguf:
        with Path(source.file).open("rb") as stream:
            return int.from_bytes(stream.read(16)[8:], "little")
    return len(_shapes(source)) or None


def _shapes(source: ModelSource) -> list[tuple[int, ...]]:
    files = source.folder.glob("*.safetensors")
    return [shape for file in files for shape in check_tensors(file).values()]


def _counts(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The numbers of modules in a configuration and in the configurations inside it."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _counts(value)
        elif isinstance(value, int) and _COUNTS.search(name):
            yield name, value


def refuse_incomplete(model: Any, info: dict[str, Any], where: str) -> None:
    """Raise HarnessError when a model's weights and its files do not match, with the first names.

    ``info`` is what ``from_pretrained(output_loading_info=True)`` returned. Tied weights and keys
    that the model's class itself ignores are in none of its sets.
    """
    missing = set(info["missing_keys"])
    wrong = {key: (tuple(stored), tuple(own)) for key, stored, own in info["mismatched_keys"]}
    unknown = {key for key in info["unexpected_keys"] if not _COMPUTED.search(key)}
    if missing and missing.issuperset(dict(model.named_parameters())):
        stored = f", which hold {some_names(unknown)}" if unknown else ""
        raise HarnessError(
            f"none of this {type(model).__name__}'s weights is in its files{stored}",
            where=where,
            hint="config.json and the weights belong to different models",
        )
    found = []
    if missing:
        found.append(f"not in its files: {some_names(missing)}")
    if wrong:
        first = min(wrong, key=_in_order)
        shapes = "{} stored, {} expected".format(*map(list, wrong[first]))
        found.append(f"of another shape: {some_names(wrong)}, {first}: {shapes}")
    if unknown:
        found.append(f"in its files but not in the model: {some_names(unknown)}")
    if found:
        raise HarnessError(
            f"weights of this {type(model).__name__} are {'; '.join(found)}",
            where=where,
            hint="config.json and the weights do not belong together, or a file is missing",
        )


def some_names(keys: Iterable[str]) -> str:
    """The first names in order, and how many there are."""
    names = sorted(keys, key=_in_order)
    more = f", … ({len(names)} in all)" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _in_order(key: str) -> list[tuple[int, str]]:
    """Layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split(".")]
