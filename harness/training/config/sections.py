"""All sections but [data], [formats] and [schedule], one dataclass each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from annotated_types import Ge, Gt, Interval, Le, Lt

#: true, false or "auto". A flag or variable may spell them as true, yes, on, 1 and false, no, off,
#: 0, in any case; settings are checked after they are read, so an unknown word is reported there.
Switch = Annotated[
    bool | Literal["auto"],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{true,false,auto}",
        instance_from_str=lambda args: args[0].lower(),
        is_instance=lambda value: isinstance(value, bool | str),
        str_from_instance=lambda value: [str(value).lower()],
    ),
]


@dataclass(frozen=True)
class AdapterConfig:
    """The LoRA adapter. Its weights, gradients and moments are float32, whatever the base is."""

    lora_r: Annotated[int, Ge(1)] = 16
    """Rank of the two factors."""
    lora_alpha: Annotated[float, Gt(0)] = 32.0
    """Scales the adapter's output by lora_alpha / lora_r (lora_alpha / √lora_r with use_rslora)."""
    lora_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Dropout before the first factor."""
    lora_target_modules: str | tuple[str, ...] = "all-linear"
    """What to adapt. "all-linear": each linear layer of the text decoder, except routers and
    experts. One or several names, such as q_proj, experts, lm_head or vision_tower: the layers
    whose full name contains it. "all-linear" may be one of them. --dry-run lists the layers."""
    use_rslora: bool = False
    """Scale by lora_alpha / √lora_r, so that a higher rank does not learn more slowly (arXiv
    2312.03732)."""
    use_dora: bool = False
    """Learn the magnitude of each weight apart from its direction (arXiv 2402.09353)."""
    train_control_tokens: bool = False
    """Add the control tokens that the trained formats need to the tokenizer. Train their embeddings
    and those that the base never trained."""


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
        both = self.load_in_4bit and self.load_in_8bit
        return ["load_in_8bit = True: excludes load_in_4bit"] if both else []


@dataclass(frozen=True)
class LossConfig:
    """Which parts of an answer are trained. System prompts, questions and tool results never are.
    The stop is trained with the part before it."""

    train_on: tuple[Literal["answers", "thoughts", "calls"], ...] = ("answers", "thoughts", "calls")
    """Parts of the assistant's messages to train: text, thoughts, tool calls. The other parts
    remain context."""
    last_turn_only: bool = False
    """Train only what follows the last question: the final answer and the calls before it."""

    def problems(self) -> list[str]:
        """Values that leave nothing to train."""
        return [] if self.train_on else ["train_on = []: nothing would be trained"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a step minimises (docs/distillation.md)."""

    kind: Literal["supervised", "consistency", "distillation"] = "supervised"
    """supervised: cross-entropy of the answers. consistency: that, and the divergence between
    native and training format. distillation: the divergence from the base model in its native
    format."""
    native: str = ""
    """Id of the native format. Empty: the one that equals the model's own chat template."""
    answers: Literal["given", "self", "both"] = "given"
    """given: the conversations' own answers. self: the base model first answers their last
    questions, natively and greedily. both: the two as separate examples."""
    prompts: Annotated[int, Ge(0)] = 0
    """Maximum number of conversations that the model answers, spread evenly over the set. 0:
    all."""
    max_new_tokens: Annotated[int, Ge(1)] = 64
    """Longest answer that the model generates, in tokens. One that has not ended by then is
    distilled without its stop; the other kinds leave it out."""
    supervised_weight: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Distillation: share of cross-entropy in the loss of given answers. The model's own answers
    have none."""
    consistency_weight: Annotated[float, Ge(0)] = 1.0
    """Consistency: the weight of the divergence; that of the cross-entropy is 1."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Distillation: divides both sides' logits; its square multiplies the loss."""
    top_k: Annotated[int, Ge(0)] = 64
    """Distillation: how many tokens of the teacher's distribution are kept; all others count as
    one. 0: the whole vocabulary."""
    teacher_folds: Annotated[int, Ge(0)] = 0
    """Distillation: number of folds that the rows are cut into. The teacher of a fold is an adapter
    that was trained on the other folds, with their answers and in the native format, so it has not
    memorised the rows that it teaches (arXiv 2110.08324). 0: the base is the teacher."""
    teacher_epochs: Annotated[float, Gt(0)] = 1.0
    """Distillation: epochs of a fold's teacher."""

    def problems(self) -> list[str]:
        """Folds that give no teacher, or no answers to train one with."""
        if self.teacher_folds == 1:
            return ["teacher_folds = 1: leaves no rows to train a teacher on; set 0, or 2 or more"]
        if self.teacher_folds and self.kind != "distillation":
            return [f"teacher_folds: needs kind = 'distillation', not {self.kind!r}"]
        if self.teacher_folds and self.answers != "given":
            return [f"teacher_folds: needs answers = 'given', not {self.answers!r}"]
        return []


@dataclass(frozen=True)
class OptimisationConfig:
    """Steps and learning rates."""

    learning_rate: Annotated[float, Gt(0), Le(100)] = 2e-4
    """Peak learning rate, at most 100; that of factor A when the two factors differ."""
    num_train_epochs: Annotated[float, Gt(0)] = 3.0
    """Passes over the conversations. Fractions are allowed."""
    max_steps: Annotated[int, Ge(0)] = 0
    """Optimiser steps of the run; overrides num_train_epochs. 0: as many as the epochs have."""
    per_device_train_batch_size: Annotated[int, Ge(1)] = 8
    """Conversations per accumulation step."""
    gradient_accumulation_steps: Annotated[int, Ge(1)] = 1
    """Accumulation steps per optimiser step. 4 × 1 gives the same update as 1 × 4."""
    max_tokens_per_batch: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Tokens of one forward pass, with padding. Affects memory and speed, not the result. auto: on
    a GPU as many as fit into its memory, elsewhere 2048."""
    gradient_checkpointing: Switch = "auto"
    """Recompute activations in the backward pass: less memory, more time. auto: only if the
    estimate without it exceeds the memory."""
    fsdp: bool = False
    """Shard the frozen base over the processes that torchrun started (FSDP2), for one that does not
    fit a card (docs/distributed.md). Does not affect the result."""
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"] = "adamw_torch"
    """The optimiser. The 8-bit ones are bitsandbytes'; the paged one needs CUDA."""
    loraplus_lr_ratio: Annotated[float, Gt(0)] = 1.0
    """LoRA+: multiplies the learning rate of factor B (arXiv 2402.12354)."""
    compensate_alpha: Annotated[float, Ge(0)] = 0.0
    """A reference lora_alpha: B's rate is multiplied by compensate_alpha / lora_alpha, so that runs
    with different alphas train alike. 0: no compensation."""
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
class EvaluationConfig:
    """What is measured at each checkpoint."""

    references: Annotated[int, Ge(0)] = 12
    """Number of reference cases whose NLL is measured in seen and held-out formats. 0: none."""
    formats_measured: Annotated[int, Ge(1)] = 4
    """Largest number of seen formats measured, and of held-out formats."""
    recall_rows: Annotated[int, Ge(0)] = 8
    """Number of training answers, and of controls never trained on, whose log-probability is
    measured. 0: none."""
    metric_for_best_model: str = "nll_held_out"
    """The metric that decides, lower is better: any that is logged at checkpoints (nll_native,
    nll_seen, nll_held_out, hazard_held_out, recall, …). Without held-out formats nll_seen replaces
    nll_held_out."""


@dataclass(frozen=True)
class CheckpointsConfig:
    """When the run is saved."""

    save_steps: Annotated[int, Ge(0)] = 0
    """Optimiser steps between checkpoints. 0: four times a run."""
    save_total_limit: Annotated[int, Ge(0)] = 0
    """Keep the last N checkpoints, those that keep_every and keep_best name, and those that others
    branched from. 0: all."""
    keep_every: Annotated[int, Ge(0)] = 0
    """Keep every checkpoint whose step is a multiple of this. 0: off."""
    keep_best: bool = False
    """Keep the checkpoint that is best in evaluation.metric_for_best_model."""


@dataclass(frozen=True)
class AutoBranchConfig:
    """Train at a high rate until held-out NLL rises, return to the last good checkpoint, continue
    at a lower rate, and so on."""

    branch_at_turn: bool = False
    """Branch automatically. The run itself is the trunk and stops at its turning point; each branch
    is a run below it."""
    branch_measure: Literal["nll_held_out", "nll_seen", "nll_native"] = "nll_held_out"
    """The metric that should fall. It needs evaluation.references."""
    branch_factor: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Multiplies the rate from run to branch."""
    branch_rounds: Annotated[int, Ge(1)] = 3
    """Largest number of branches, each from the one before."""
    branch_epochs: Annotated[float, Ge(0)] = 0.0
    """Epochs of a branch. 0: what is left of num_train_epochs where it starts."""


@dataclass(frozen=True)
class StoppingConfig:
    """When a run ends early, or a checkpoint is marked. Checked at every checkpoint; a limit that
    is not set is not checked."""

    early_stopping_patience: Annotated[int, Ge(0)] = 0
    """Stop after this many checkpoints without a better metric_for_best_model. 0: never."""
    early_stopping_threshold: Annotated[float, Ge(0)] = 0.0
    """The smallest change that counts as better."""
    max_recall_excess: float | None = None
    """Limit of the gain of training answers over controls since step 0, in nats a token, in the
    format with the largest gain."""
    max_drift_hazard: Annotated[float, Ge(0)] | None = None
    """Limit of the mean probability of another script along references, in any group of formats."""
    max_nll_rise: Annotated[float, Ge(0)] | None = None
    """Limit of the rise of held-out NLL above its lowest value so far, in nats a token."""
    on_limit: Literal["stop", "mark"] = "stop"
    """stop: the run ends. mark: it continues, and the checkpoint is marked in metrics.jsonl."""

    @property
    def watched(self) -> bool:
        """Whether any limit is set."""
        limits = (self.max_recall_excess, self.max_drift_hazard, self.max_nll_rise)
        return bool(self.early_stopping_patience) or any(limit is not None for limit in limits)


@dataclass(frozen=True)
class TrackingConfig:
    """Trackers to which the log is sent. metrics.jsonl is always written."""

    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers, through accelerate; each needs its package."""
    run_name: str = ""
    """The run's name there. Empty: the name of the output folder."""
    project: str = "formatproof"
    """The project's name there."""
