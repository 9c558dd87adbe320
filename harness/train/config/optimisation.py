"""[optimisation] and [schedule]: steps, rates, and how a rate changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

ScheduleName = Literal["constant", "linear", "cosine", "cosine_with_restarts", "warmup_stable_decay", "sigmoid", "piecewise"]


@dataclass(frozen=True)
class OptimisationConfig:
    """Steps and rates."""

    learning_rate: Annotated[float, Gt(0)] = 2e-4
    """Peak learning rate; that of factor A when the two factors differ."""
    num_train_epochs: Annotated[float, Gt(0)] = 3.0
    """Passes over the conversations. A part of an epoch is allowed."""
    max_steps: Annotated[int, Ge(0)] = 0
    """Optimiser steps of the run; beats num_train_epochs. 0: as many as the epochs have."""
    per_device_train_batch_size: Annotated[int, Ge(1)] = 8
    """Conversations an accumulation step."""
    gradient_accumulation_steps: Annotated[int, Ge(1)] = 1
    """Accumulation steps an optimiser step. 4 × 1 gives the same update as 1 × 4."""
    max_tokens_per_batch: Annotated[int, Ge(1)] = 2048
    """Padded tokens of one forward pass. A matter of memory only: it does not change the result."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Compute activations again in the backward pass: less memory, more time. auto: where the estimate says that it would not fit otherwise."""
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"] = "adamw_torch"
    """The optimiser. adamw_8bit and the paged ones are bitsandbytes'; paged ones need CUDA."""
    loraplus_lr_ratio: Annotated[float, Gt(0)] = 1.0
    """LoRA+: factor B learns at so many times the rate of A (arXiv 2402.12354)."""
    compensate_alpha: Annotated[float, Ge(0)] = 0.0
    """A reference lora_alpha: B's rate is multiplied by compensate_alpha / lora_alpha, so that runs with other alphas move the model alike. 0: no compensation."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """AdamW's weight decay."""
    max_grad_norm: Annotated[float, Ge(0)] = 1.0
    """Gradients are scaled down to this norm. 0: never."""
    adam_beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Decay of the first moment."""
    adam_beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Decay of the second moment."""
    adam_epsilon: Annotated[float, Gt(0)] = 1e-8
    """Term that keeps the denominator from zero."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate changes over the run."""

    lr_scheduler_type: ScheduleName = "cosine"
    """Shape after warm-up: constant, linear, cosine, cosine_with_restarts, warmup_stable_decay (WSD), sigmoid or piecewise."""
    warmup_ratio: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Share of the steps in which the rate rises from 0. For sigmoid and piecewise, which are drawn over the whole run, the rise is a ceiling."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Steps of the rise; beats warmup_ratio. 0: take the ratio."""
    min_lr_ratio: Annotated[float, Ge(0), Le(1)] = 0.0
    """The rate falls to this share of its peak instead of 0. Not for constant and piecewise."""
    num_cycles: Annotated[int, Ge(1)] = 1
    """Descents of cosine_with_restarts."""
    decay_ratio: Annotated[float, Gt(0), Le(1)] = 0.2
    """Share of the steps in which warmup_stable_decay cools down, at the end."""
    decay_type: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt"
    """How warmup_stable_decay cools down (1-sqrt: arXiv 2405.18392)."""
    sigmoid_shape: Literal["fall", "rise", "bump"] = "fall"
    """fall: high, then low. rise: low, then high. bump: slow, fast, slow."""
    midpoint: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Where the sigmoid is half way (its peak when a bump), as a share of the run."""
    steepness: Annotated[float, Ge(0.1)] = 10.0
    """Slope of the sigmoid: 10 passes from 95 % to 5 % in 0.56 of the run, 40 in 0.15."""
    points: tuple[tuple[Annotated[float, Ge(0), Le(1)], Annotated[float, Ge(0), Le(1)]], ...] = ()
    """piecewise: (share of the run, share of the peak rate) pairs joined by straight lines; two at one place make a jump."""

    def problems(self) -> list[str]:
        """Points that make no curve, or are given for nothing."""
        places = [place for place, _ in self.points]
        if self.lr_scheduler_type == "piecewise" and (len(places) < 2 or places[0] != 0 or places[-1] != 1 or places != sorted(places)):
            return [f"points = {[list(point) for point in self.points]}: piecewise needs points that go from 0 to 1 in order"]
        return ['points: have no effect unless lr_scheduler_type = "piecewise"'] if places and self.lr_scheduler_type != "piecewise" else []
