"""A checkpoint under another lora_alpha: B divided by what the scale is multiplied with, so that the adapter computes the same."""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import HarnessError
from harness.models import ADAPTER_FILE
from harness.train.checkpoints import OPTIMIZER_FILE

#: How Adam's moments follow when B is multiplied by f: its gradient is divided by f.
_POWERS = {"step": 0, "exp_avg": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2}


def rescale_b(checkpoint: Path, factor: float, lora_alpha: float, *, moments: bool) -> None:
    """Multiply every B of a checkpoint by ``factor``, and Adam's moments with it, and note the new lora_alpha.

    The adapter adds (alpha / r) · B(A(x)). With alpha divided by the factor the sum is the same; the gradient of B is
    divided by it, its first moment so too, its second twice. Raises HarnessError for the moments of another optimiser.
    """
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / ADAPTER_FILE)
    save_file({name: weight * factor if _is_b(name) else weight for name, weight in weights.items()}, checkpoint / ADAPTER_FILE, {"format": "pt"})
    config_file = checkpoint / "adapter_config.json"
    config = {**json.loads(config_file.read_text(encoding="utf-8")), "lora_alpha": lora_alpha}
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if not moments:
        return
    scaled = {}
    for name, value in load_file(checkpoint / OPTIMIZER_FILE).items():
        parameter, field = name.rsplit("|", 1)
        if _is_b(parameter) and field not in _POWERS:
            raise HarnessError(f"the optimiser's {field!r} cannot be rescaled", hint="--optimizer reset")
        scaled[name] = value * factor ** _POWERS[field] if _is_b(parameter) and _POWERS[field] else value
    save_file(scaled, checkpoint / OPTIMIZER_FILE)


def _is_b(name: str) -> bool:
    return "lora_B" in name or "lora_embedding_B" in name
