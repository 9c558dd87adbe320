"""Read files of tensors that may be cut, damaged, or not what their name says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.models.quiet import first_line

if TYPE_CHECKING:
    import torch

_POINTER = b"version https://git-lfs"
#: Longer headers are refused by the safetensors library too.
_LONGEST_HEADER = 100_000_000


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, by name.

    Raises HarnessError naming the file when it is missing, cut or damaged.
    """
    from safetensors.torch import load_file

    check_tensors(path)
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except Exception as error:  # safetensors has exceptions of its own for each kind of damage
        raise HarnessError(f"cannot read the tensors: {first_line(error)}", str(path)) from None
    return tensors


def are_readable(path: Path) -> bool:
    """Whether a safetensors file is there, whole and not empty."""
    try:
        return bool(check_tensors(path))
    except HarnessError:
        return False


def check_tensors(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors. Reads its header only, and imports no torch.

    Raises HarnessError naming the file when it is missing, empty, cut, a pointer of Git LFS, or no
    safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(max(8, len(_POINTER)))
            refuse_pointer(start, path)
            length = int.from_bytes(start[:8], "little")
            if size < 8 or length > _LONGEST_HEADER:
                raise HarnessError("not a safetensors file" if size else "empty", str(path))
            stream.seek(8)
            text = stream.read(length)
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", str(path)) from None
    header = _header(text, path) if len(text) == length else {}
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if len(text) < length or size < 8 + length + end:
        raise HarnessError(
            "the file is cut", str(path), hint=f"it has {size:,} bytes; copy or download it again"
        )
    return {name: tuple(tensor["shape"]) for name, tensor in header.items()}


def refuse_pointer(start: bytes, path: Path) -> None:
    """Raise HarnessError when a file's first bytes are those of a Git LFS pointer."""
    if start.startswith(_POINTER):
        raise HarnessError(
            "a pointer of Git LFS, not the file itself", str(path), hint="run: git lfs pull"
        )


def _header(text: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        for tensor in header.values():
            _, _ = map(int, tensor["data_offsets"])
            tuple(map(int, tensor["shape"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise HarnessError("not a safetensors file, or damaged", str(path)) from None
    return dict(header)
