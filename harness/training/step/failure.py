"""Notice a training that has failed: NaN or infinite numbers, or a loss as high as guessing.

A NaN in the loss or in a gradient goes into Adam's moments and into every weight, and nothing after
it is worth keeping. So the run ends before that step moves a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel

#: Steps whose median loss is compared with guessing: the loss of one step depends on its rows.
_LAST_STEPS = 5
#: How far below guessing, in nats, a run must have begun. A model with random weights begins there.
_LEARNT = 0.5
#: A gradient below this moves nothing. Its loss may be this far below guessing, by rounding.
_NO_GRADIENT, _ROUNDING = 1e-6, 0.01
_KEPT = "the checkpoints before it are kept"


class TrainingFailedError(HarnessError):
    """The run cannot be used from this step on. What was written before stays."""


def refuse_not_finite(
    loaded: LoadedModel, step: int, rate: float, numbers: Mapping[str, float]
) -> None:
    """Raise TrainingFailedError when one of these ``numbers`` of a step is NaN or infinite.

    ``step`` counts from 1 and ``rate`` is its learning rate; at step 0 the base was measured.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise TrainingFailedError(
                f"{name} at step {step} is {_shown(value)}: {_likely_cause(loaded, step, rate)}",
                hint=_KEPT if step > 1 else "",
            )


def refuse_broken_weights(
    loaded: LoadedModel, parameters: Sequence[torch.nn.Parameter], step: int, rate: float
) -> None:
    """Raise TrainingFailedError when a trained weight is NaN or infinite, before it is written."""
    import torch

    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise TrainingFailedError(
            f"a weight is NaN or infinite after step {step}: {_likely_cause(loaded, step, rate)}",
            hint=_KEPT,
        )


def refuse_guessing(
    losses: Sequence[float], gradients: Sequence[float], vocabulary: int, step: int, rate: float
) -> None:
    """Raise TrainingFailedError when the last losses are no lower than those of guessing.

    Guessing among the vocabulary costs ln(vocabulary) nats a token. A run that began near that,
    such as one of a model with random weights, has failed only where no gradient is left. Both
    sequences have one value for each step so far, up to ``step``.
    """
    guessing = math.log(vocabulary)
    recent = losses[-_LAST_STEPS:]
    stuck = max(gradients[-_LAST_STEPS:], default=1.0) < _NO_GRADIENT
    if not recent or not (losses[0] < guessing - _LEARNT or stuck):
        return
    if median(recent) >= guessing - (_ROUNDING if stuck else 0.0):
        raise TrainingFailedError(
            f"the training has diverged: at step {step} the median loss of the last {len(recent)} "
            f"steps is {median(recent):.2f}, and guessing among {vocabulary} tokens costs "
            f"{guessing:.2f}: {_too_high(rate)}",
            hint=_KEPT,
        )


def _likely_cause(loaded: LoadedModel, step: int, rate: float) -> str:
    """Why numbers are not finite: the base itself, its dtype, or the learning rate."""
    broken = next(_broken_tensors(loaded), "")
    if broken:
        return f"the base holds NaN or infinite weights ({broken}); take another copy of it"
    if loaded.dtype == "float16":
        return "float16 overflows above 65504; train in bfloat16 or float32 (dtype)"
    if step <= 1:  # no weight has moved yet, so it is not the rate
        return f"the base itself computes it on these rows in {loaded.dtype}; try dtype float32"
    return _too_high(rate)


def _too_high(rate: float) -> str:
    return f"the learning rate ({rate:.3g} there) is probably too high; try a tenth of it"


def _broken_tensors(loaded: LoadedModel) -> Iterator[str]:
    """The names of the base's own tensors that are not finite; an adapter's are left out."""
    import torch

    model: Any = loaded.model
    for name, tensor in model.named_parameters():
        own = not tensor.requires_grad and "lora_" not in name
        if own and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            yield name.removeprefix("base_model.model.").replace(".base_layer", "")


def _shown(value: float) -> str:
    return f"not finite ({value:g})"
