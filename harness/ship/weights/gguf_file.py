"""A GGUF file: its metadata, and its tensors under the names of a model folder.

llama.cpp's converter renames tensors, and changes some: rows of Q and K are reordered where it
rotates neighbours and transformers halves, and Gemma's norms are stored with 1 added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.formats.exchange.gguf_opening import opened_gguf

if TYPE_CHECKING:
    import numpy as np

#: Architectures whose Q and K llama.cpp's converter reorders (``undo_permute`` in llama.cpp).
_REORDERED = {"llama", "granite", "granitemoe", "deci", "llada", "arctic"}
#: Architectures whose Q and K it leaves as they are.
_IN_ORDER = {"gemma", "gemma2", "gemma3", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "phi3", "olmo2"}
_NORM_PLUS_ONE = {"gemma", "gemma2", "gemma3"}
#: A file of the types below was rounded; tensors of the others hold what they were given.
FLOATS = {"F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
#: Largest usual error of a type: ‖stored − given‖ / ‖given‖. Twice what normal weights have.
ERROR = {"Q8": 0.02, "Q6": 0.05, "Q5": 0.12, "Q4": 0.22, "Q3": 0.40, "Q2": 0.75}
_OTHER = 0.9


@dataclass(frozen=True)
class GgufFile:
    """An opened file. Tensors are read when they are asked for."""

    path: Path
    reader: Any

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Raises HarnessError without the package gguf, and for a file that it cannot read."""
        with opened_gguf(path) as reader:
            return cls(path, reader)

    def value(self, key: str, default: Any = None) -> Any:
        """A value of the metadata; ``{arch}`` in the key is the architecture."""
        found = self.reader.get_field(key.replace("{arch}", self.architecture))
        return default if found is None else found.contents()

    @cached_property
    def architecture(self) -> str:
        """The model's architecture by llama.cpp's name."""
        found = self.reader.get_field("general.architecture")
        return "" if found is None else str(found.contents())

    @cached_property
    def tensors(self) -> dict[str, Any]:
        """The tensors by name, as the package gguf has them."""
        return {tensor.name: tensor for tensor in self.reader.tensors}

    def kind(self, name: str) -> str:
        """The type of a tensor, such as Q4_K."""
        return str(self.tensors[name].tensor_type.name)

    def read(self, name: str) -> np.ndarray:
        """A tensor, dequantised, in float32. Raises HarnessError for a type gguf does not know."""
        import gguf

        tensor = self.tensors[name]
        try:
            found: np.ndarray = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise HarnessError(
                f"{name}: gguf cannot dequantise {self.kind(name)}", str(self.path)
            ) from None
        return found

    def names_of(self, names: Iterator[str] | set[str] | frozenset[str]) -> dict[str, str]:
        """Names of a model folder → names in the file, for those that the package gguf knows."""
        import gguf

        known = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
        if self.architecture not in known:
            return {}
        blocks = int(self.value("{arch}.block_count", 0))
        table = gguf.get_tensor_name_map(known[self.architecture], blocks)
        found = {name: table.get_name(name, (".weight", ".bias")) for name in names}
        return {name: here for name, here in found.items() if here}

    def stored_forms(self, name: str, given: np.ndarray) -> Mapping[str, np.ndarray]:
        """How llama.cpp's converter may store a tensor. More than one form where we do not know."""
        kind = name.rpartition(".")[0].rpartition(".")[2]
        if kind in ("attn_q", "attn_k"):
            heads = self._heads(kind)
            turned = _reordered(given, heads) if heads else given
            if self.architecture in _REORDERED:
                return {"reordered": turned}
            if self.architecture not in _IN_ORDER:
                return {"as it is": given, "reordered": turned}
        if name.endswith("norm.weight") and self.architecture in _NORM_PLUS_ONE:
            return {"plus 1": given + 1}
        return {"as it is": given}

    def _heads(self, kind: str) -> int:
        count = self.value("{arch}.attention.head_count", 0)
        if kind == "attn_k":
            count = self.value("{arch}.attention.head_count_kv", count)
        return int(count) if isinstance(count, int) else 0  # a list: heads differ by the layer


def largest_error(kind: str) -> float:
    """The largest relative error that a type explains."""
    return ERROR.get(kind[:2], _OTHER)


def _reordered(given: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbours, transformers turns halves (``permute`` in llama.cpp)."""
    rows = given.shape[0]
    if rows % (2 * heads):
        return given
    halves = given.reshape(heads, 2, rows // heads // 2, *given.shape[1:])
    return halves.swapaxes(1, 2).reshape(given.shape)
