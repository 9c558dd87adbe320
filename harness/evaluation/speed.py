"""How fast a model would run here, from its number of weights and a few products of matrices."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models.architecture import build_on_meta, pick_class, read_config
from harness.models.device import check_device, pick_dtype

if TYPE_CHECKING:
    import torch

    from harness.evaluation.settings import EvalJob
    from harness.models import ModelSource

#: Rows of a product: tokens that are read together, and answers that are generated together.
_READ, _GENERATED = 512, 16
#: Seconds for each of the two measurements.
_SPENT = 0.25


@dataclass(frozen=True, slots=True)
class Speed:
    """Products in floating-point operations a second, of many rows and of few."""

    device: str
    dtype: str
    parameters: int
    reading: float
    generating: float

    def seconds(self, read: int, generated: int) -> float:
        """The time for this many tokens: two operations a weight and token, attention left out."""
        operations = 2.0 * self.parameters
        return operations * (read / self.reading + generated / self.generating)


def measure_speed(source: ModelSource, job: EvalJob) -> Speed | None:
    """Count the weights without loading them, and measure; None for a quantised base."""
    import torch

    if job.quantisation or job.device_map:
        return None
    config = read_config(source)
    model = build_on_meta(config, pick_class(config, source.file), source.file)
    parameters = sum(weights.numel() for weights in model.parameters())
    device = check_device(job.device)
    dtype = pick_dtype(device) if job.dtype == "auto" else job.dtype
    width = int(config.get_text_config().hidden_size)
    weights = torch.ones(width, 4 * width, device=device, dtype=getattr(torch, dtype))
    reading, generating = (_rate(weights, rows) for rows in (_READ, _GENERATED))
    return Speed(device, dtype, parameters, reading, generating)


def _rate(weights: torch.Tensor, rows: int) -> float:
    """Floating-point operations a second of a product with this many rows."""
    given = weights.new_ones(rows, weights.shape[0])
    given @ weights
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < _SPENT:
        product = given @ weights
        done += 1
        if done % 8 == 0:
            float(product[0, 0])  # waits for a GPU
    float((given @ weights)[0, 0])
    spent = time.perf_counter() - start
    return 2.0 * rows * weights.shape[0] * weights.shape[1] * done / spent
