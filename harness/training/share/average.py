"""The mean of several checkpoints of one trunk, as an adapter.

An adapter adds s·B·A to a weight. The mean of what the checkpoints add is the mean of the *products*; the product of
the mean factors is something else, with cross terms B_i·A_j of checkpoints that never were together. The products' mean has a rank
of up to n·r: it is kept whole by stacking the factors, or cut to the best approximation of a lower rank by a singular
value decomposition (Eckart and Young 1936), which needs only matrices of n·r × n·r.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.files import whole
from harness.models import ADAPTER_FILE, BASE_FILE

if TYPE_CHECKING:
    import torch

Of = Literal["product", "factors"]


@dataclass(frozen=True, slots=True)
class Averaged:
    """The adapter's folder, its rank, and the share of the mean's squared norm that the cut to this rank left out, at most over all layers."""

    folder: Path
    rank: int
    lost: float


def average(
    checkpoints: Sequence[Path], out: Path, *, of: Of = "product", rank: int = 0
) -> Averaged:
    """Write the mean of some checkpoints to ``out``. ``rank`` 0 keeps the adapters' own rank; more than n·r is never needed.

    Raises HarnessError for adapters of unlike shape or base, and for what is no plain LoRA (DoRA's magnitudes and
    trained tokens have no product to average).
    """
    from safetensors.torch import load_file, save_file

    if len(checkpoints) < 2:
        raise HarnessError(
            "an average needs two checkpoints or more", hint="--steps a,b or --last 2"
        )
    configs = [_config(folder) for folder in checkpoints]
    loaded = [load_file(folder / ADAPTER_FILE) for folder in checkpoints]
    _check_alike(checkpoints, configs, loaded)
    own = int(configs[0]["r"])
    wanted = min(rank or own, own * len(checkpoints)) if of == "product" else own
    scale = _scaling(configs[0], own) / _scaling(
        {**configs[0], "lora_alpha": configs[0]["lora_alpha"] * wanted / own}, wanted
    )
    averaged: dict[str, torch.Tensor] = {}
    lost = 0.0
    for name in sorted(key for key in loaded[0] if ".lora_A." in key):
        other = name.replace(".lora_A.", ".lora_B.")
        downs, ups = [weights[name] for weights in loaded], [weights[other] for weights in loaded]
        down, up, missing = (
            _mean_of_products(downs, ups, wanted)
            if of == "product"
            else (_mean(downs), _mean(ups), 0.0)
        )
        averaged[name], averaged[other] = down, up * scale
        lost = max(lost, missing)
    config = {**configs[0], "r": wanted, "lora_alpha": configs[0]["lora_alpha"] * wanted / own}
    with whole(out, what="adapter", hint="free some space and average again") as folder:
        save_file(averaged, folder / ADAPTER_FILE, {"format": "pt"})
        (folder / "adapter_config.json").write_text(
            json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        shutil.copyfile(checkpoints[0] / BASE_FILE, folder / BASE_FILE)
    return Averaged(out, wanted, lost)


def _mean_of_products(
    downs: list[torch.Tensor], ups: list[torch.Tensor], rank: int
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(A, B, share lost) with B·A the best approximation of mean(B_i·A_i) of this rank. In float64: a cut is no place to lose digits."""
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


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.stack(tensors).double().mean(0).float()


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return found


def _check_alike(
    checkpoints: Sequence[Path], configs: Sequence[dict[str, Any]], loaded: Sequence[dict[str, Any]]
) -> None:
    odd = sorted(name for name in loaded[0] if ".lora_A." not in name and ".lora_B." not in name)
    if (
        odd
        or configs[0].get("use_dora")
        or configs[0].get("rank_pattern")
        or configs[0].get("alpha_pattern")
    ):
        raise HarnessError(
            "only plain LoRA of one rank can be averaged",
            where=str(checkpoints[0]),
            hint=odd[0] if odd else "",
        )
    bases = [
        json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))["digest"]
        for folder in checkpoints
    ]
    for folder, config, weights, base in zip(checkpoints, configs, loaded, bases, strict=True):
        alike = {name: w.shape for name, w in weights.items()} == {
            name: w.shape for name, w in loaded[0].items()
        }
        if (
            base != bases[0]
            or not alike
            or _scaling(config, int(config["r"])) != _scaling(configs[0], int(configs[0]["r"]))
        ):
            raise HarnessError(
                "another base, shape or lora_alpha than the first", where=str(folder)
            )


def _scaling(config: dict[str, Any], rank: int) -> float:
    """What peft multiplies B·A with: alpha / r, or alpha / √r for rank-stabilised LoRA (arXiv 2312.03732)."""
    return float(config["lora_alpha"]) / (float(rank) ** 0.5 if config.get("use_rslora") else rank)
