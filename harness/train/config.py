"""The settings of a training run: one tree of frozen dataclasses, read from TOML.

Names and meanings are those of transformers, peft and TRL. The docstring under a field is its help
text. All mistakes of a file are reported at once.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from harness.errors import HarnessError, nearest

#: What other trainers call our keys, named in the error that rejects them.
FOREIGN = {
    "lr": "learning_rate",
    "base_model": "model",
    "model_name_or_path": "model",
    "num_epochs": "num_train_epochs",
    "epochs": "num_train_epochs",
    "micro_batch_size": "per_device_train_batch_size",
    "batch_size": "per_device_train_batch_size",
    "sequence_len": "max_length",
    "cutoff_len": "max_length",
    "max_seq_length": "max_length",
    "lora_rank": "lora_r",
    "r": "lora_r",
    "alpha": "lora_alpha",
    "lora_target": "lora_target_modules",
    "target_modules": "lora_target_modules",
    "lr_scheduler": "lr_scheduler_type",
    "warmup_steps": "warmup_ratio",
    "datasets": "train",
    "dataset": "train",
    "quantization_bit": "load_in_4bit",
    "bnb_4bit_compute_dtype": "dtype",
    "optimizer": "optim",
    "activation_checkpointing": "gradient_checkpointing",
}


@dataclass(frozen=True)
class AdapterConfig:
    """The LoRA adapter. Its weights, gradients and moments are float32 whatever the base's dtype."""

    lora_r: int = 16
    """Rank of the two factors."""
    lora_alpha: float = 32.0
    """The adapter's output is scaled by lora_alpha / lora_r."""
    lora_dropout: float = 0.0
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


@dataclass(frozen=True)
class DataConfig:
    """What to learn from."""

    train: tuple[str, ...] = ()
    """Conversation files (JSONL of messages) or folders of them. Empty: the shipped training set."""
    max_length: int = 1024
    """Tokens of the longest conversation; a longer one is refused by name, never cut."""


@dataclass(frozen=True)
class FormatsConfig:
    """Which prompt formats the model meets."""

    train: Annotated[tuple[str, ...], tyro.conf.arg(name="formats")] = ("common",)
    """What to train in: ids, globs, sets ("common", "all") or draws ("grammar:200:seed=7:split=train"). Families in held_out are left out of sets and globs."""
    held_out: tuple[str, ...] = ()
    """Formats never trained in, in which checkpoints are measured. Their whole families stay out."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""
    mixing: Literal["balanced", "uniform", "all"] = "balanced"
    """balanced: over F epochs each example meets each of F formats once. uniform: drawn at random. all: every format in every epoch."""


@dataclass(frozen=True)
class OptimisationConfig:
    """Steps and rates."""

    learning_rate: float = 2e-4
    """Peak learning rate."""
    num_train_epochs: float = 3.0
    """Passes over the conversations. A part of an epoch is allowed."""
    per_device_train_batch_size: int = 8
    """Conversations an accumulation step."""
    gradient_accumulation_steps: int = 1
    """Accumulation steps an optimiser step. 4 × 1 gives the same update as 1 × 4."""
    max_tokens_per_batch: int = 2048
    """Padded tokens of one forward pass. A matter of memory only: it does not change the result."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Compute activations again in the backward pass: less memory, more time, the same result. auto: where they would not fit otherwise."""
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"] = "adamw_torch"
    """The optimiser. adamw_8bit and the paged ones are bitsandbytes'; paged ones need CUDA."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "cosine"
    """How the rate changes after warm-up."""
    warmup_ratio: float = 0.05
    """Share of the steps in which the rate rises from 0."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm. 0: never."""
    adam_beta1: float = 0.9
    """Decay of the first moment."""
    adam_beta2: float = 0.999
    """Decay of the second moment."""
    adam_epsilon: float = 1e-8
    """Term that keeps the denominator from zero."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a step minimises (docs/distillation.md)."""

    kind: Literal["supervised", "consistency", "distillation"] = "supervised"
    """supervised: cross-entropy of the answers. consistency: that, and the same beliefs in the native as in the drawn format. distillation: the base model's beliefs in its native format."""
    native: str = ""
    """Id of the format that the drawn ones are held against. Empty: the one that equals the model's own chat template."""
    answers: Literal["given", "self", "both"] = "given"
    """given: the conversations' own answers. self: the base model answers their last questions first, natively and greedily. both: the two as separate examples."""
    prompts: int = 0
    """The model answers at most so many conversations, spread evenly over the set. 0: all."""
    max_new_tokens: int = 64
    """Longest answer of the model's own, in tokens. One that has not ended by then is distilled without its stop; in the other kinds it is left out."""
    supervised_weight: float = 0.0
    """Distillation: share of cross-entropy in the loss of the given answers. The model's own answers are always distilled alone."""
    consistency_weight: float = 1.0
    """Consistency: the divergence's weight beside the cross-entropy."""
    hold_native: bool = True
    """Consistency: no gradient through the native side, so the drawn formats come to it and it stays."""
    temperature: float = 1.0
    """Distillation: both sides' logits are divided by it, and the loss multiplied by its square."""
    top_k: int = 64
    """Distillation: tokens of the teacher's distribution that are kept; all others count as one. 0: the whole vocabulary."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured at each checkpoint."""

    references: int = 12
    """Reference cases whose NLL is read in seen and held-out formats. 0: none."""
    formats_measured: int = 4
    """At most so many seen and so many held-out formats."""
    recall_rows: int = 8
    """Training answers, and twins never trained on, whose log-probability is read. 0: none."""


@dataclass(frozen=True)
class CheckpointsConfig:
    """When the run is saved."""

    save_steps: int = 0
    """Optimiser steps between checkpoints. 0: four times a run."""
    save_total_limit: int = 0
    """Keep the newest so many. 0: all."""


@dataclass(frozen=True)
class TrackingConfig:
    """Where the log goes besides metrics.jsonl."""

    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers, through accelerate; each needs its package."""
    run_name: str = ""
    """The run's name there; the output folder's without it."""
    project: str = "formatproof"
    """The project's name there."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    model: str = "SmolLM2-135M-Instruct"
    """Model folder, GGUF file, hub id, or the packaged SmolLM2-135M-Instruct."""
    output_dir: str = "runs/train"
    """Folder of the run. Starting again with the same settings resumes it."""
    seed: int = 0
    """Seeds data order, format draws, adapter initialisation and dropout."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of the frozen base, and of the arithmetic on a quantised one."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    quantisation: QuantisationConfig = field(default_factory=QuantisationConfig)
    data: DataConfig = field(default_factory=DataConfig)
    formats: FormatsConfig = field(default_factory=FormatsConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain nested values."""
        return asdict(self)


def read_config(path: Path) -> TrainConfig:
    """Read a TOML file. Raises one HarnessError that names every mistake in it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read the settings: {error.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HarnessError(f"not TOML: {error}", where=str(path)) from None
    return parse_config(table, where=str(path))


def parse_config(table: dict[str, Any], where: str = "settings") -> TrainConfig:
    """Check a table of settings against the tree. Raises one HarnessError that names every mistake in it."""
    from pydantic import TypeAdapter, ValidationError

    problems = list(_unknown(table, TrainConfig(), ""))
    try:
        config = TypeAdapter(TrainConfig).validate_python(table)
    except ValidationError as error:
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"])
            problems.append(f"{place} = {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}")
    else:
        problems += list(_out_of_range(config))
    if problems:
        unique = list(dict.fromkeys(problems))
        raise HarnessError("; ".join(unique), where=where, hint=f"{len(unique)} mistake{'s' * (len(unique) > 1)}; harness train --help lists every key")
    return config


def _unknown(table: dict[str, Any], section: Any, prefix: str) -> list[str]:
    known = {f.name: getattr(section, f.name) for f in fields(section)}
    everywhere = {f.name for part in [section, *known.values()] if is_dataclass(part) for f in fields(part)}
    found: list[str] = []
    for key, value in table.items():
        if key not in known:
            offer = f"here it is called {FOREIGN[key]}" if key in FOREIGN else nearest(key, everywhere)
            found.append(f"unknown key {prefix}{key} ({offer})")
        elif is_dataclass(known[key]) and isinstance(value, dict):
            found += _unknown(value, known[key], f"{prefix}{key}.")
    return found


def _out_of_range(config: TrainConfig) -> list[str]:
    opt, adapter, goal = config.optimisation, config.adapter, config.objective
    rules = {
        f"optimisation.learning_rate = {opt.learning_rate}: must be above 0": opt.learning_rate > 0,
        f"optimisation.num_train_epochs = {opt.num_train_epochs}: must be above 0": opt.num_train_epochs > 0,
        f"optimisation.per_device_train_batch_size = {opt.per_device_train_batch_size}: must be at least 1": opt.per_device_train_batch_size >= 1,
        f"optimisation.gradient_accumulation_steps = {opt.gradient_accumulation_steps}: must be at least 1": opt.gradient_accumulation_steps >= 1,
        f"optimisation.warmup_ratio = {opt.warmup_ratio}: must lie in [0, 1)": 0 <= opt.warmup_ratio < 1,
        f"adapter.lora_r = {adapter.lora_r}: must be at least 1": adapter.lora_r >= 1,
        f"adapter.lora_alpha = {adapter.lora_alpha}: must be above 0": adapter.lora_alpha > 0,
        f"adapter.lora_dropout = {adapter.lora_dropout}: must lie in [0, 1)": 0 <= adapter.lora_dropout < 1,
        "quantisation.load_in_8bit = True: excludes load_in_4bit": not (config.quantisation.load_in_4bit and config.quantisation.load_in_8bit),
        f"objective.supervised_weight = {goal.supervised_weight}: must lie in [0, 1]": 0 <= goal.supervised_weight <= 1,
        f"objective.consistency_weight = {goal.consistency_weight}: must be at least 0": goal.consistency_weight >= 0,
        f"objective.temperature = {goal.temperature}: must be above 0": goal.temperature > 0,
        f"objective.top_k = {goal.top_k}: must be at least 0": goal.top_k >= 0,
        f"objective.prompts = {goal.prompts}: must be at least 0": goal.prompts >= 0,
        f"objective.max_new_tokens = {goal.max_new_tokens}: must be at least 1": goal.max_new_tokens >= 1,
        f"data.max_length = {config.data.max_length}: must be at least 16": config.data.max_length >= 16,
    }
    return [problem for problem, holds in rules.items() if not holds]
