"""The mean of several checkpoints of one trunk, as an adapter.

An adapter adds s·B·A to a weight. The mean of what the checkpoints add is the mean of the
*products*. The product of the mean factors is something else, with cross terms B_i·A_j of
checkpoints that never worked together. The mean of n products has a rank of up to n·r: it is kept
whole by stacking the factors, or cut to the best approximation of a lower rank by a singular value
decomposition (Eckart and Young 1936), which needs only matrices of n·r × n·r.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import atomic_folder, read_json_object
from harness.models import ADAPTER_FILE, BASE_FILE, require_base
from harness.models.tensor_files import read_tensors
from harness.run_file import ADAPTER_CONFIG

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Averaged:
    """The adapter's folder and rank, and what the cut to this rank lost.

    ``lost`` is a fraction of the mean's squared norm, the largest over all layers.
    """

    folder: Path
    rank: int
    lost: float


def average(checkpoints: Sequence[Path], out: Path, *, rank: int = 0) -> Averaged:
    """Write the mean of some checkpoints to ``out``.

    ``rank`` 0 keeps the adapters' own rank; n times their rank loses nothing. Raises HarnessError
    for adapters that differ in shape or base, and for anything but plain LoRA (DoRA's magnitudes
    and trained tokens have no product to average).
    """
    from safetensors.torch import save_file

    if len(checkpoints) < 2:
        raise HarnessError(
            "an average needs two checkpoints or more", hint="--steps a,b or --last 2"
        )
    configs = [_config(folder) for folder in checkpoints]
    loaded = [read_tensors(folder / ADAPTER_FILE) for folder in checkpoints]
    _check_alike(checkpoints, configs, loaded)
    own = int(configs[0]["r"])
    wanted = min(rank or own, own * len(checkpoints))
    config = {**configs[0], "r": wanted, "lora_alpha": configs[0]["lora_alpha"] * wanted / own}
    scale = _scaling(configs[0], own) / _scaling(config, wanted)
    averaged: dict[str, torch.Tensor] = {}
    lost = 0.0
    for name in sorted(key for key in loaded[0] if ".lora_A." in key):
        other = name.replace(".lora_A.", ".lora_B.")
        factors_a, factors_b = ([weights[key] for weights in loaded] for key in (name, other))
        averaged[name], factor_b, missing = _mean_of_products(factors_a, factors_b, wanted)
        averaged[other] = factor_b * scale
        lost = max(lost, missing)
    with atomic_folder(out, what="adapter", hint="free some space and average again") as folder:
        save_file(averaged, folder / ADAPTER_FILE, {"format": "pt"})
        (folder / ADAPTER_CONFIG).write_text(
            json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        shutil.copyfile(checkpoints[0] / BASE_FILE, folder / BASE_FILE)
    return Averaged(out, wanted, lost)


def _mean_of_products(
    downs: list[torch.Tensor], ups: list[torch.Tensor], rank: int
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(A, B, fraction lost): B·A is the best approximation of mean(B_i·A_i) of this rank.

    In float64, so that the decomposition loses no digits.
    """
    import torch

    down = torch.cat(downs).double()  # [n·r, in]
    up = torch.cat(ups, dim=1).double() / len(ups)  # [out, n·r]
    if rank >= down.shape[0]:
        return down.float().contiguous(), up.float().contiguous(), 0.0
    left, triangle = torch.linalg.qr(up)
    right, other = torch.linalg.qr(down.T)
    u, values, v = torch.linalg.svd(triangle @ other.T)
    root = values[:rank].sqrt()
    total = float(values.square().sum())
    lost = float(values[rank:].square().sum()) / total if total else 0.0
    return (
        (root[:, None] * (v[:rank] @ right.T)).float().contiguous(),
        (left @ u[:, :rank] * root).float().contiguous(),
        lost,
    )


def _config(folder: Path) -> dict[str, Any]:
    return read_json_object(folder / ADAPTER_CONFIG)


def _check_alike(
    checkpoints: Sequence[Path], configs: Sequence[dict[str, Any]], loaded: Sequence[dict[str, Any]]
) -> None:
    first, shapes = configs[0], [{name: w.shape for name, w in ws.items()} for ws in loaded]
    odd = sorted(name for name in loaded[0] if ".lora_A." not in name and ".lora_B." not in name)
    if odd or any(first.get(key) for key in ("use_dora", "rank_pattern", "alpha_pattern")):
        raise HarnessError(
            "only plain LoRA of one rank can be averaged",
            where=str(checkpoints[0]),
            hint=odd[0] if odd else "",
        )
    facts = [
        (
            require_base(folder)["digest"],
            shape,
            _scaling(config, int(config["r"])),
        )
        for folder, config, shape in zip(checkpoints, configs, shapes, strict=True)
    ]
    for folder, fact in zip(checkpoints, facts, strict=True):
        if fact != facts[0]:
            raise HarnessError(
                "another base, shape or lora_alpha than the first", where=str(folder)
            )


def _scaling(config: dict[str, Any], rank: int) -> float:
    """peft's factor of B·A: alpha / r, or alpha / √r with rsLoRA (arXiv 2312.03732)."""
    return float(config["lora_alpha"]) / (float(rank) ** 0.5 if config.get("use_rslora") else rank)
