"""A model in memory, with its tokenizer and what identifies it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.models.quantisation import Quantisation
from harness.models.source import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LoadedModel:
    """A model ready to run, its tokenizer, and what identifies it."""

    source: ModelSource
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    dtype: str
    device: str
    adapter: str | None = None
    adapter_digest: str = ""
    lean_lora: bool = True
    quantisation: Quantisation = field(default_factory=Quantisation)
    trained_tokens: tuple[int, ...] = ()
    """Ids whose embeddings an adapter is to train too (harness.training.step.lora)."""
    added_tokens: tuple[str, ...] = ()
    """Control tokens that the tokenizer got beyond its own."""
    matmul_dtype: str = ""
    """The dtype in which hand-written forward passes multiply; "" until it is decided."""
    longest_packed: int | None = field(default=None, init=False)
    """The longest sequence that prefix-tree packing may hold; None until it is found out."""

    @property
    def name(self) -> str:
        """The model's short name."""
        return self.source.name

    @property
    def digest(self) -> str:
        """The source's digest, and for a model of the hub the commit that was loaded: its name stays when its files change."""
        commit = (
            getattr(self.model.config, "_commit_hash", None)
            if self.source.digest.startswith("hub:")
            else None
        )
        return f"{self.source.digest}@{commit}" if commit else self.source.digest

    @functools.cached_property
    def tokenizer_digest(self) -> str:
        """A digest of all that the tokenizer does to a text: vocabulary, merges, normaliser, special tokens, chat template."""
        table = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for state in ("truncation", "padding"):  # set by calls, and by ours never
            table.pop(state, None)
        facts = [table, self.tokenizer.special_tokens_map, self.tokenizer.chat_template]
        return (
            "sha256:"
            + hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[
                :32
            ]
        )

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients; a float32 adapter on a 16-bit base computes in the base's dtype.

        Layers that could not be fused (harness.models.lora_forward) meet the base through autocast instead.
        """
        import torch

        with torch.inference_mode(), contextlib.nullcontext() if self.lean_lora else self.autocast():
            yield

    def autocast(self) -> Any:
        """The context in which a float32 adapter meets a 16-bit base; nothing for a float32 base."""
        import torch

        if self.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.split(":")[0], dtype=getattr(torch, self.dtype))
