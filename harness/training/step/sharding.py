"""A frozen base sharded over processes by torch's FSDP2: for a base that does not fit one card.

Each process holds a part of every layer and gathers a layer's weights while it computes with them.
The adapter is not sharded: every process has it whole, and the main process moves it
(harness.training.step.distributed).

A gathered layer needs all processes. In a training step they run equally many passes. Outside of
steps only the main process computes, when it measures a checkpoint; then the others run a pass of
two tokens for each of its passes, so that every gathering has its partners.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.models.quiet import first_line

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from harness.models import LoadedModel
    from harness.training.config import TrainConfig
    from harness.training.step.lora_targets import Target


def refuse_unshardable(config: TrainConfig, targets: Sequence[Target] = ()) -> None:
    """Raise HarnessError for settings that need whole weights of the base at one place.

    ``targets`` are the weights to adapt, once the base is loaded.
    """
    adapter, quantised = config.adapter, config.quantisation
    reasons = {
        "quantisation.load_in_4bit": quantised.load_in_4bit,
        "quantisation.load_in_8bit": quantised.load_in_8bit,
        "adapter.use_dora": adapter.use_dora,
        "adapter.train_control_tokens": adapter.train_control_tokens,
        "factors on experts": any(target.parameter for target in targets),
    }
    for place, asked in reasons.items():
        if asked:
            raise HarnessError(
                f"{place} and optimisation.fsdp do not go together",
                hint="leave out one of the two",
            )


class ShardedBase:
    """The shards of a base, and who leads: then ``call`` asks the others for a pass beside ours."""

    def __init__(
        self, loaded: LoadedModel, mesh: DeviceMesh, device: str, call: Callable[[], None]
    ) -> None:
        """Shard a base that lies whole in the host's memory over the devices of a mesh.

        No other process need be at the same point. Raises HarnessError for a quantised base, and
        for one that does not name its layers.
        """
        import torch
        from torch.distributed.fsdp import fully_shard

        if loaded.quantisation:
            raise HarnessError(
                "a quantised base cannot be sharded",
                where=loaded.name,
                hint="leave out fsdp: each process then holds the whole of it",
            )
        self.model: Any = loaded.model
        self.call = call
        self.leads = False
        self.broken = ""
        names = set(getattr(self.model, "_no_split_modules", None) or ())
        layers = [module for module in self.model.modules() if type(module).__name__ in names]
        if not layers:
            raise HarnessError(
                f"{type(self.model).__name__} does not name its layers, so it cannot be sharded",
                where=loaded.name,
                hint="leave out fsdp",
            )
        for layer in layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        # The root too gives its weights back: else a pass would leave it gathered, and saving the
        # adapter, which one process does, would shard it there alone.
        fully_shard(self.model, mesh=mesh, reshard_after_forward=True)
        self.model.register_forward_pre_hook(self._before, prepend=True)
        self.model.forward = self._watched(self.model.forward)
        loaded.device = device
        self.device = torch.device(device)

    def idle_pass(self) -> None:
        """Gather every layer once, beside passes of all other processes.

        The first pass must be one of these, since it allocates the room for gathered weights: room
        made in inference mode could not be used in training.
        """
        import torch

        with torch.no_grad():
            ids = torch.zeros((1, 2), dtype=torch.long, device=self.device)
            self.model(input_ids=ids, use_cache=False)

    def out_of_memory(self) -> HarnessError:
        """The error of a training pass that ran out of memory, which no process can do again."""
        return HarnessError(
            "out of memory: a pass over the sharded base does not fit",
            where=str(self.device),
            hint="lower max_tokens_per_batch, or set gradient_checkpointing = true; the run goes "
            "on from its last checkpoint",
        )

    def refuse_broken(self) -> None:
        """Raise HarnessError when a pass has failed: the others wait in the middle of theirs."""
        if self.broken:
            raise HarnessError(
                f"a pass over the sharded base failed: {self.broken}",
                hint="if memory was short, lower max_tokens_per_batch or start more processes",
            )

    def _before(self, _module: Any, _inputs: Any) -> None:
        self.refuse_broken()
        if self.leads:
            self.call()

    def _watched(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return forward(*args, **kwargs)
            except Exception as error:
                if self.leads:
                    self.broken = first_line(error)
                raise

        return run


def mesh_of(device: str) -> DeviceMesh:
    """All processes in a row. Called by all of them at once."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    kind = torch.device(device).type
    return init_device_mesh(kind, (torch.distributed.get_world_size(),))
