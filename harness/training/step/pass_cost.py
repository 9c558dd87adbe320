"""What one more pass costs, in tokens, where rows are padded: measured on the device.

A step of padded rows is cut so that padding and passes together cost least. A pass has a price of
its own: launching its kernels, dequantising the weights, reading them from memory. The unit is the
cost of a token: a pass of SmolLM2-135M on two CPU cores costs 48 (docs/log.md), on a GPU far more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.backends.local.limits import most_positions
from harness.models.device import machine, measured_once, release
from harness.records import Encoded
from harness.training.data.examples import Example
from harness.training.step.lora import begin_training
from harness.training.step.loss import plain_losses

if TYPE_CHECKING:
    from harness.models import LoadedModel

#: Tokens of the two passes that are timed, each so often.
SHORT, LONG, TIMES = 32, 128, 3
#: Where the clock says nothing.
USUAL = 48
#: The most: on a GPU a step then is one pass wherever memory allows.
MOST = 1 << 20


def pass_cost(loaded: LoadedModel, clock: Callable[[], float] = time.perf_counter) -> int:
    """What one more forward and backward pass costs, in tokens of this model on this device.

    Timed once on a machine for a model, and kept in the cache folder.
    """
    facts = {
        "what": "cost of a pass",
        "model": loaded.digest,
        "dtype": loaded.dtype,
        "quantisation": str(loaded.quantisation),
        **machine(loaded.device),
    }
    return round(measured_once(facts, lambda: _measure(loaded, clock)))


def _measure(loaded: LoadedModel, clock: Callable[[], float]) -> float:
    modes = [(module, module.training) for module in loaded.model.modules()]
    begin_training(loaded.model)
    short, long = min(SHORT, most_positions(loaded) // 4), min(LONG, most_positions(loaded))
    cost = float(USUAL)
    try:
        for tokens in (short, long):  # the first passes choose kernels and allocate
            _time(loaded, tokens, clock)
        pairs = [(_time(loaded, short, clock), _time(loaded, long, clock)) for _ in range(TIMES)]
        cost = cost_of(short, min(a for a, _ in pairs), long, min(b for _, b in pairs))
    except Exception:  # noqa: S110  # the step itself will say what is wrong
        pass
    loaded.model.zero_grad(set_to_none=True)
    for module, mode in modes:
        module.training = mode
    release(loaded.device)
    return cost


def cost_of(short: int, seconds: float, long: int, more_seconds: float) -> float:
    """The constant of the line through two timed passes, in tokens, from 0 to ``MOST``."""
    token = (more_seconds - seconds) / (long - short)
    if token <= 0:  # the pass takes as long whatever its size
        return MOST
    return min(MOST, max(0.0, seconds / token - short))


def _time(loaded: LoadedModel, tokens: int, clock: Callable[[], float]) -> float:
    """Seconds of a forward and backward pass over one row."""
    import torch

    vocabulary = loaded.model.config.get_text_config().vocab_size
    ids = tuple(at % vocabulary for at in range(tokens + 1))
    row = Example("", "", Encoded(ids, tuple(at > tokens // 2 for at in range(tokens + 1))))
    with torch.random.fork_rng(
        devices=[torch.cuda.current_device()] if loaded.device.startswith("cuda") else []
    ):
        _wait(loaded.device)
        began = clock()
        plain_losses(loaded, [row])[0].sum().backward()  # type: ignore[no-untyped-call]  # torch
        _wait(loaded.device)
        return clock() - began


def _wait(device: str) -> None:
    """A GPU works on after the call returns."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
