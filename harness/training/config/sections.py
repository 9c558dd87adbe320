"""[adapter] and [quantisation]: what is trained, and how its frozen base is stored.

[objective]: what a step minimises, and where the answers come from.

[optimisation] and [schedule]: steps, rates, and how a rate changes.

[evaluation], [checkpoints], [auto_branch], [stopping] and [tracking]: what is measured, kept, watched and sent elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Le, Lt


@dataclass(frozen=True)
class AdapterConfig:
    """The LoRA adapter. Its weights, gradients and moments are float32 whatever the base's dtype."""

    lora_r: Annotated[int, Ge(1)] = 16
    """Rank of the two factors."""
    lora_alpha: Annotated[float, Gt(0)] = 32.0
    """The adapter's output is scaled by lora_alpha / lora_r (by lora_alpha / √lora_r with use_rslora)."""
    lora_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Dropout before the first factor."""
    lora_target_modules: str | tuple[str, ...] = "all-linear"
    """Names of the layers to adapt, or "all-linear"."""
    use_rslora: bool = False
    """Scale by lora_alpha / √lora_r, so that a higher rank does not learn slower (arXiv 2312.03732)."""
    use_dora: bool = False
    """Learn the magnitude of each weight apart from its direction (arXiv 2402.09353)."""
    train_control_tokens: bool = False
    """Give the tokenizer the control tokens that the trained formats need, and train their embeddings and those that the base never trained."""


@dataclass(frozen=True)
class QuantisationConfig:
    """How the frozen base is stored. The adapter stays float32."""

    load_in_4bit: bool = False
    """Store the base in four bits (QLoRA)."""
    load_in_8bit: bool = False
    """Store the base in eight bits (LLM.int8)."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    """The four-bit code."""
    bnb_4bit_use_double_quant: bool = True
    """Store the four-bit scales in eight bits too: 0.37 bits a weight less."""

    def problems(self) -> list[str]:
        """Values that contradict each other."""
        return (
            ["load_in_8bit = True: excludes load_in_4bit"]
            if self.load_in_4bit and self.load_in_8bit
            else []
        )


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a step minimises (docs/distillation.md)."""

    kind: Literal["supervised", "consistency", "distillation"] = "supervised"
    """supervised: cross-entropy of the answers. consistency: that, and the same beliefs in the native as in the drawn format. distillation: the base model's beliefs in its native format."""
    native: str = ""
    """Id of the format that the drawn ones are held against. Empty: the one that equals the model's own chat template."""
    answers: Literal["given", "self", "both"] = "given"
    """given: the conversations' own answers. self: the base model answers their last questions first, natively and greedily. both: the two as separate examples."""
    prompts: Annotated[int, Ge(0)] = 0
    """The model answers at most so many conversations, spread evenly over the set. 0: all."""
    max_new_tokens: Annotated[int, Ge(1)] = 64
    """Longest answer of the model's own, in tokens. One that has not ended by then is distilled without its stop; in the other kinds it is left out."""
    supervised_weight: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Distillation: share of cross-entropy in the loss of the given answers. The model's own answers are always distilled alone."""
    consistency_weight: Annotated[float, Ge(0)] = 1.0
    """Consistency: the divergence's weight beside the cross-entropy."""
    hold_native: bool = True
    """Consistency: no gradient through the native side, so the drawn formats come to it and it stays."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Distillation: both sides' logits are divided by it, and the loss multiplied by its square."""
    top_k: Annotated[int, Ge(0)] = 64
    """Distillation: tokens of the teacher's distribution that are kept; all others count as one. 0: the whole vocabulary."""


ScheduleName = Literal[
    "constant",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "warmup_stable_decay",
    "sigmoid",
    "piecewise",
]


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
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"] = (
        "adamw_torch"
    )
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
        if self.lr_scheduler_type == "piecewise" and (
            len(places) < 2 or places[0] != 0 or places[-1] != 1 or places != sorted(places)
        ):
            return [
                f"points = {[list(point) for point in self.points]}: piecewise needs points that go from 0 to 1 in order"
            ]
        return (
            ['points: have no effect unless lr_scheduler_type = "piecewise"']
            if places and self.lr_scheduler_type != "piecewise"
            else []
        )


#: Measures of a checkpoint that are logged by item, so that a turn can be told from noise.
NLL_MEASURES = ("nll_held_out", "nll_seen", "nll_native")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured at each checkpoint."""

    references: Annotated[int, Ge(0)] = 12
    """Reference cases whose NLL is read in seen and held-out formats. 0: none."""
    formats_measured: Annotated[int, Ge(1)] = 4
    """At most so many seen and so many held-out formats."""
    recall_rows: Annotated[int, Ge(0)] = 8
    """Training answers, and twins never trained on, whose log-probability is read. 0: none."""
    metric_for_best_model: str = "nll_held_out"
    """The deciding measure: any that is logged at checkpoints (nll_native, nll_seen, nll_held_out, hazard_held_out, recall, …). Without held-out formats nll_seen stands in for nll_held_out."""
    greater_is_better: bool = False
    """Whether a higher value of the deciding measure is the better one."""


@dataclass(frozen=True)
class CheckpointsConfig:
    """When the run is saved."""

    save_steps: Annotated[int, Ge(0)] = 0
    """Optimiser steps between checkpoints. 0: four times a run."""
    save_total_limit: Annotated[int, Ge(0)] = 0
    """Keep the newest so many, and besides them what the next two keep and those that others branched from. 0: all."""
    keep_every: Annotated[int, Ge(0)] = 0
    """Keep every checkpoint whose step is a multiple of this. 0: none for that."""
    keep_best: bool = False
    """Keep the checkpoint that is best in evaluation.metric_for_best_model."""


@dataclass(frozen=True)
class AutoBranchConfig:
    """Train at a high rate until the turn, go back to the last good checkpoint, continue at a lower rate, and so on."""

    branch_at_turn: bool = False
    """Do so. The run itself is the trunk and stops at its turn; each branch is a run of its own below it."""
    branch_measure: Literal["nll_held_out", "nll_seen", "nll_native"] = "nll_held_out"
    """What is to fall. Its values by item are needed (evaluation.references)."""
    branch_factor: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Each branch takes the rate of the run before times this."""
    branch_rounds: Annotated[int, Ge(1)] = 3
    """At most so many branches, one from another."""
    branch_epochs: Annotated[float, Ge(0)] = 0.0
    """Epochs of a branch. 0: what is left of num_train_epochs at the point it starts from."""
    branch_margin: Annotated[float, Ge(0)] = 1.0
    """How far before the turn to go back, in standard errors of the paired difference to the turn. 0: to the turn itself."""


@dataclass(frozen=True)
class StoppingConfig:
    """When a run ends before its last step, or a checkpoint is marked. Judged at every checkpoint; a limit that is not given is not watched."""

    early_stopping_patience: Annotated[int, Ge(0)] = 0
    """Stop after so many checkpoints without a better evaluation.metric_for_best_model. 0: never."""
    early_stopping_threshold: Annotated[float, Ge(0)] = 0.0
    """How much better counts as better."""
    max_recall_excess: float | None = None
    """Nats a token by which training answers may have become more likely than twins never trained on, since step 0, in the format where that is most."""
    max_drift_hazard: Annotated[float, Ge(0)] | None = None
    """Mean probability of another script along references, in the group of formats where it is highest."""
    max_nll_rise: Annotated[float, Ge(0)] | None = None
    """Nats a token by which held-out NLL may rise above its lowest so far."""
    on_limit: Literal["stop", "mark"] = "stop"
    """stop: the run ends. mark: it goes on, and the checkpoint is marked in metrics.jsonl."""

    @property
    def watched(self) -> bool:
        """Whether anything is watched at all."""
        return bool(self.early_stopping_patience) or any(
            limit is not None
            for limit in (self.max_recall_excess, self.max_drift_hazard, self.max_nll_rise)
        )


@dataclass(frozen=True)
class TrackingConfig:
    """Where the log goes besides metrics.jsonl."""

    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers, through accelerate; each needs its package."""
    run_name: str = ""
    """The run's name there; the output folder's without it."""
    project: str = "formatproof"
    """The project's name there."""
