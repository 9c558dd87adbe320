"""Several processes that share the work of each step: the first leads, the others compute gradients and nothing else.

Started by torchrun (docs/distributed.md). Only the leader has an optimiser, draws data, logs, measures and saves. Before
a step it sends weights and examples to the others and afterwards sums their gradients. So what resumes, branches or stops a run
concerns one process, and a follower has no state of its own that could differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from harness.training.data.examples import Example

if TYPE_CHECKING:
    import torch

#: The others wait while the leader measures a checkpoint, however long that takes.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class StepShare:
    """A follower's part of a step: its examples, and the weight of all supervised tokens of the whole step."""

    examples: tuple[Example, ...]
    weight: float
    seed: int


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process (``rank``, 0 leads) among ``count``."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that logs, measures and saves."""
        return self.rank == 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Inside, the followers wait until the leader is through: what it converts or downloads, they find."""
        if self.count > 1 and not self.is_main:
            self._barrier()
        yield
        if self.count > 1 and self.is_main:
            self._barrier()

    def scatter(
        self, examples: Sequence[Example], weight: float, parameters: Sequence[torch.nn.Parameter]
    ) -> tuple[Example, ...]:
        """The leader's call before a step: weights and a share of the examples go to each follower. Returns the leader's own share."""
        if self.count == 1:
            return tuple(examples)
        import torch

        seed = int(
            torch.randint(2**62, ())
        )  # the followers' dropout, from the state that a checkpoint keeps
        shares = split_by_tokens(examples, self.count)
        self._scatter([StepShare(part, weight, seed + rank) for rank, part in enumerate(shares)])
        _broadcast(parameters)
        return shares[0]

    def release(self) -> None:
        """The leader's last call: the followers return."""
        if self.count > 1:
            self._scatter([None] * self.count)

    def receive(self, parameters: Sequence[torch.nn.Parameter]) -> StepShare | None:
        """A follower's call: its part of the next step, with the weights updated, or None when the leader has released it."""
        import torch

        work = self._scatter(None)
        if work is not None:
            _broadcast(parameters)
            torch.manual_seed(work.seed)
        return work

    def reduce(self, parameters: Sequence[torch.nn.Parameter], report: Any) -> list[Any]:
        """After the backward passes: the leader's gradients become the sums over all processes. Returns everyone's report, to the leader alone."""
        if self.count == 1:
            return [report]
        import torch

        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        torch.distributed.reduce(flat, 0)
        if self.is_main:
            for gradient, part in zip(
                gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
            ):
                gradient.copy_(part.view_as(gradient))
        reports: list[Any] = [None] * self.count
        torch.distributed.gather_object(report, reports if self.is_main else None)
        return reports

    @staticmethod
    def _barrier() -> None:
        import torch

        torch.distributed.barrier()

    @staticmethod
    def _scatter(work: Sequence[StepShare | None] | None) -> StepShare | None:
        import torch

        mine: list[Any] = [None]
        torch.distributed.scatter_object_list(mine, list(work) if work is not None else None)
        received: StepShare | None = mine[0]
        return received


def join_ranks() -> Ranks:
    """The team that torchrun started this process in, over gloo on CPUs and NCCL on CUDA, or a team of one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Ranks()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    return Ranks(int(state.process_index), int(state.num_processes))


def split_by_tokens(examples: Sequence[Example], count: int) -> list[tuple[Example, ...]]:
    """Examples dealt to ``count`` processes, the longest first and each to the one that has fewest tokens so far. Some may go empty."""
    parts: list[list[Example]] = [[] for _ in range(count)]
    tokens = [0] * count
    for example in sorted(examples, key=lambda example: len(example.encoded.ids), reverse=True):
        least = tokens.index(min(tokens))
        parts[least].append(example)
        tokens[least] += len(example.encoded.ids)
    return [tuple(part) for part in parts]


def _broadcast(parameters: Sequence[torch.nn.Parameter]) -> None:
    """The leader's weights to all, bit for bit."""
    import torch

    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    torch.distributed.broadcast(flat, 0)
    for parameter, part in zip(
        parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True
    ):
        parameter.data.copy_(part.view_as(parameter))
