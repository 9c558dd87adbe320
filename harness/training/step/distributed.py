"""Data-parallel training: the main process leads, the others only compute gradients.

Started by torchrun (docs/distributed.md). Only the main process has an optimiser, draws data, logs,
measures and saves. Before a step it sends weights and examples to the others, and afterwards sums
their gradients. So resuming, branching and stopping concern one process, and no other has a state
of its own that could differ.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from harness.training.data.examples import Example

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.training.step.sharding import ShardedBase

#: How long the others wait, for instance while the main process measures a checkpoint.
TIMEOUT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class StepShare:
    """One process's part of a step. ``weight`` is that of all supervised tokens of the step."""

    examples: tuple[Example, ...]
    weight: float
    seed: int


#: In place of a share: run a pass over the sharded base beside one of the main process.
PASS: Literal["pass"] = "pass"
#: What the main process sends: a share, PASS, or None at the end.
Message = StepShare | Literal["pass"] | None


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process, ``rank``, among ``count``. Rank 0 is the main process.

    ``shards`` is the base where it is sharded over the processes (``shard``).
    """

    rank: int = 0
    count: int = 1
    shards: ShardedBase | None = field(default=None, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this process logs, measures and saves."""
        return self.rank == 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block first: what it converts or downloads, the others find."""
        if self.count > 1 and not self.is_main:
            self._barrier()
        yield
        if self.count > 1 and self.is_main:
            self._barrier()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The processes of a machine run the block one after the other."""
        turn = int(os.environ.get("LOCAL_RANK", self.rank))
        for at in range(int(os.environ.get("LOCAL_WORLD_SIZE", self.count))):
            if at == turn:
                yield
            self._barrier()

    def shard(self, load: Callable[[], LoadedModel], device: str) -> tuple[LoadedModel, Ranks]:
        """Load a base into the host's memory and shard it, one process of a machine at a time.

        Returns it with the ranks that share it. Raises as ``ShardedBase``.
        """
        from harness.training.step.sharding import ShardedBase, mesh_of

        mesh = mesh_of(device)  # all at once, before the turns
        with self.in_turn():
            loaded = load()
            shards = ShardedBase(loaded, mesh, device, self._call)
        shards.idle_pass()
        return loaded, replace(self, shards=shards)

    def _call(self) -> None:
        self._scatter([PASS] * self.count)

    def from_main(self, value: bool) -> bool:
        """The main process's value, in all processes."""
        if self.count == 1:
            return value
        import torch

        values = [value]
        torch.distributed.broadcast_object_list(values, 0)
        return values[0]

    @contextmanager
    def leading(self) -> Iterator[None]:
        """The main process runs the block, the others ``receive`` meanwhile."""
        if self.shards:
            self.shards.leads = True
        yield
        if self.shards:
            self.shards.leads = False

    def idle_passes(self, passes: int) -> int:
        """How many passes some process runs more than this one, which runs ``passes``.

        Where the base is sharded all must run as many; elsewhere 0.
        """
        if self.shards is None:
            return 0
        import torch

        most = torch.tensor(passes, device=self.shards.device)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        return int(most) - passes

    def scatter(
        self, examples: Sequence[Example], weight: float, parameters: Sequence[torch.nn.Parameter]
    ) -> tuple[Example, ...]:
        """Called by the main process before a step: send each process the weights and a share.

        Returns the main process's own share.
        """
        if self.count == 1:
            return tuple(examples)
        import torch

        if self.shards:
            self.shards.refuse_broken()
            self.shards.leads = False  # a step's passes are everybody's
        # The seed of the others' dropout comes from the state that a checkpoint keeps.
        seed = int(torch.randint(2**62, ()))
        shares = split_by_tokens(examples, self.count)
        self._scatter([StepShare(part, weight, seed + rank) for rank, part in enumerate(shares)])
        _broadcast(parameters)
        return shares[0]

    def release(self) -> None:
        """Called last by the main process: the others return."""
        if self.count > 1:
            if self.shards:
                self.shards.refuse_broken()
            self._scatter([None] * self.count)

    def receive(self, parameters: Sequence[torch.nn.Parameter]) -> StepShare | None:
        """Called by the others: the share of the next step, with the weights updated.

        None when the main process has released this one. Until then, runs a pass over a sharded
        base for each that the main process asks for.
        """
        import torch

        while (share := self._scatter(None)) == PASS:
            if self.shards:
                self.shards.idle_pass()
        if share is not None:
            _broadcast(parameters)
            torch.manual_seed(share.seed)
        return share

    def reduce(self, parameters: Sequence[torch.nn.Parameter], report: Any) -> list[Any]:
        """Sum the gradients of all processes into those of the main process.

        Returns the reports of all processes, in the main process alone.
        """
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
        if self.shards:
            self.shards.leads = self.is_main
        return reports

    @staticmethod
    def _barrier() -> None:
        import torch

        torch.distributed.barrier()

    @staticmethod
    def _scatter(shares: Sequence[Message] | None) -> Message:
        import torch

        received: list[Any] = [None]
        torch.distributed.scatter_object_list(received, None if shares is None else list(shares))
        message: Message = received[0]
        return message


def join_ranks() -> Ranks:
    """The processes that torchrun started (gloo on CPUs, NCCL on CUDA), or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Ranks()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)
    return Ranks(int(state.process_index), int(state.num_processes))


def leave_ranks(code: int) -> int:
    """The exit code of a finished run; one of several processes ends here, with it.

    The interpreter is not wound up there: a thread of gloo or autograd that gives back a Python
    object while it is ends the process by SIGABRT ("terminate called without an active exception").
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return code
    import torch

    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def split_by_tokens(examples: Sequence[Example], count: int) -> list[tuple[Example, ...]]:
    """Split examples over processes: the longest first, each to the one with fewest tokens.

    Some of the ``count`` processes may get none.
    """
    parts: list[list[Example]] = [[] for _ in range(count)]
    tokens = [0] * count
    for example in sorted(examples, key=lambda example: len(example.encoded.ids), reverse=True):
        least = tokens.index(min(tokens))
        parts[least].append(example)
        tokens[least] += len(example.encoded.ids)
    return [tuple(part) for part in parts]


def _broadcast(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Copy the main process's weights to all, bit for bit."""
    import torch

    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    torch.distributed.broadcast(flat, 0)
    for parameter, part in zip(
        parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True
    ):
        parameter.data.copy_(part.view_as(parameter))
