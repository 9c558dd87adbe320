"""[adapter] and [quantisation]: what is trained, and how its frozen base is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt


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
        return ["load_in_8bit = True: excludes load_in_4bit"] if self.load_in_4bit and self.load_in_8bit else []
