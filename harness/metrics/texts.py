"""Many texts as one block of bytes: a third of the memory of Python strings, and readable from disk without loading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Texts(Sequence[str]):
    """An immutable sequence of texts; lone surrogates are kept."""

    def __init__(self, block: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._block = block
        self._ends = ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        block = bytearray()
        ends = []
        for text in texts:
            block += text.encode("utf-8", "surrogatepass")
            ends.append(len(block))
        return cls(np.frombuffer(block, dtype=np.uint8), np.array(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return bytes(self._block[self._ends[at - 1] if at else 0 : self._ends[at]]).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[at] for at in range(len(self)))

    def save(self, folder: Path, name: str) -> None:
        np.save(folder / f"{name}.npy", self._block)
        np.save(folder / f"{name}-ends.npy", self._ends)

    @classmethod
    def load(cls, folder: Path, name: str) -> Texts:
        return cls(np.load(folder / f"{name}.npy", mmap_mode="r"), np.load(folder / f"{name}-ends.npy", mmap_mode="r"))
