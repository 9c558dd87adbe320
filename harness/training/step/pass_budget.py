"""The size of a step's passes where the user does not set it: as large as memory allows.

On a GPU a pass has a price of its own, mostly that of launching its kernels and of dequantising the
weights, so a step should be one pass. A CPU gains nothing from passes that leave its caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.models.device import free_bytes, release
from harness.training.config import OptimisationConfig
from harness.training.data.examples import Example
from harness.training.data.pass_sizes import PassSize
from harness.training.step.gradient_checkpointing import (
    LARGEST_FRACTION,
    Growth,
    enable_checkpointing,
    measure_growth,
)
from harness.training.step.passes import Passes

if TYPE_CHECKING:
    from peft import PeftModel

    from harness.models import LoadedModel

#: The least tokens that a GPU's passes are cut to before activations are recomputed instead.
LEAST_TOKENS = 1024
#: The most tokens of a pass, whatever memory there is.
_MOST_TOKENS = 1 << 17


def fit_passes(
    passes: Passes,
    config: OptimisationConfig,
    loaded: LoadedModel,
    model: PeftModel,
    steps: Callable[[], Iterable[Sequence[Example]]],
    *,
    sharded: bool = False,
) -> None:
    """Set the budget of ``passes``, and switch gradient checkpointing on where it is needed.

    ``steps`` gives the examples of each step of the run; only "auto" reads them. A ``sharded`` base
    is not probed: processes that find different answers would wait for each other.
    """
    switch = config.gradient_checkpointing
    if sharded:
        enable_checkpointing(switch, loaded, model, (), sharded=True)
        return
    if config.max_tokens_per_batch != "auto" or not gains_by_size(loaded.device):
        enable_checkpointing(switch, loaded, model, passes.sizes(steps()))
        return
    by_budget = sizes_by_budget(passes, steps())
    room = LARGEST_FRACTION * free_bytes(loaded.device)
    try:
        plain = measure_growth(loaded, model)
        passes.budget, fits = largest_that_fits(by_budget, plain.bytes, room)
        if switch is True or (switch == "auto" and not fits):
            enable_checkpointing(switch, loaded, model, by_budget[min(by_budget)])
            recomputed = Recomputed(plain, measure_growth(loaded, model), _layers(loaded))
            passes.budget, _ = largest_that_fits(by_budget, recomputed.bytes, room)
    except Exception as error:  # a probe runs code of any architecture and any kernel
        if isinstance(error, HarnessError):
            raise
        passes.budget = min(by_budget)
    else:
        return
    release(loaded.device)  # outside: the error's traceback holds what the probe kept
    enable_checkpointing(switch, loaded, model, by_budget[passes.budget])


def gains_by_size(device: str) -> bool:
    """Whether a large pass is faster than two small ones: a CPU's leave its caches."""
    return device.startswith("cuda")


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What a pass holds under checkpointing: what it keeps, and one layer that is recomputed."""

    plain: Growth
    kept: Growth
    layers: int

    def bytes(self, size: PassSize) -> int:
        """Bytes at the peak of the backward pass."""
        return self.kept.bytes(size) + self.plain.bytes(size) // max(1, self.layers)


def sizes_by_budget(
    passes: Passes, steps: Iterable[Sequence[Example]]
) -> dict[int, frozenset[PassSize]]:
    """Each budget that may be chosen, and the sizes of the passes that it leads to.

    The largest is the largest step in one pass; below it are powers of two.
    """
    known = list(steps)
    whole = max((sum(len(e.encoded.ids) for e in step) for step in known), default=1)
    before, found = passes.budget, {}
    for budget in budgets(whole):
        passes.budget = budget
        found[budget] = frozenset(passes.sizes(known))
    passes.budget = before
    return found


def budgets(whole: int) -> list[int]:
    """Powers of two from the least on, and the first that holds the whole step."""
    found = [LEAST_TOKENS]
    while found[-1] < min(whole, _MOST_TOKENS):
        found.append(2 * found[-1])
    return found


def largest_that_fits(
    by_budget: dict[int, frozenset[PassSize]], needed: Callable[[PassSize], int], room: float
) -> tuple[int, bool]:
    """The largest budget whose passes all fit into ``room`` bytes, or the least and False."""
    for budget in sorted(by_budget, reverse=True):
        if max(map(needed, by_budget[budget]), default=0) <= room:
            return budget, True
    return min(by_budget), False


def _layers(loaded: LoadedModel) -> int:
    return int(loaded.model.config.get_text_config().num_hidden_layers)
