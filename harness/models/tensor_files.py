"""Read files of tensors that may be cut or damaged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.models.quiet import first_line

if TYPE_CHECKING:
    import torch


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, by name.

    Raises HarnessError naming the file when it is missing, cut or damaged.
    """
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except Exception as error:  # safetensors has exceptions of its own for each kind of damage
        raise HarnessError(f"cannot read the tensors: {first_line(error)}", str(path)) from None
    return tensors


def are_readable(path: Path) -> bool:
    """Whether a safetensors file is there and whole, judged by its header and its length."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            return bool(tensors.keys())
    except Exception:  # as above; a missing file too
        return False
