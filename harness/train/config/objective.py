"""[objective]: what a step minimises, and where the answers come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval


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
