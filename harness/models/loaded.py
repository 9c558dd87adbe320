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
    import torch
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
    """Whether all LoRA layers have the lean forward of harness.models.lora_forward."""
    lean_training: bool = False
    """Whether training needs no autocast, since only factors of such layers are trained."""
    quantisation: Quantisation = field(default_factory=Quantisation)
    trained_tokens: tuple[int, ...] = ()
    """Ids whose embeddings an adapter also trains (harness.training.step.lora)."""
    added_tokens: tuple[str, ...] = ()
    """Control tokens that were added to the tokenizer."""
    matmul_dtype: str = ""
    """The dtype in which hand-written forward passes multiply; "" until it is decided."""
    stored_as: str = ""
    """How the weights were stored before they were dequantised; "" for those that were not."""
    packing: Any = None
    """How rows share a pass of the training step that runs; None outside a step, or where they are
    padded (harness.training.step.row_packing)."""
    commit: str = ""
    """The commit of the hub that was loaded; "" for a model from elsewhere."""
    probed: dict[str, Any] = field(default_factory=dict, init=False)
    """What was found out about the engines that run it (harness.backends.local.engine)."""

    @property
    def name(self) -> str:
        """The model's short name."""
        return self.source.name

    @property
    def digest(self) -> str:
        """The source's digest; for a model of the hub with the commit that was loaded.

        The name of a model on the hub stays the same when its files change.
        """
        return f"{self.source.digest}@{self.commit}" if self.commit else self.source.digest

    @functools.cached_property
    def tokenizer_digest(self) -> str:
        """The digest of everything that decides how a text is tokenised and templated."""
        table = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for state in ("truncation", "padding"):  # left behind by calls, never by ours
            table.pop(state, None)
        facts = [table, self.tokenizer.special_tokens_map, self.tokenizer.chat_template]
        text = json.dumps(facts, sort_keys=True, default=str)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def base(self) -> Any:
        """The model of transformers, below an adapter if there is one."""
        model: Any = self.model
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    @property
    def torch_dtype(self) -> torch.dtype:
        """``dtype`` as torch has it."""
        import torch

        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """Compute without gradients, a float32 adapter on a 16-bit base in the base's dtype.

        Where a LoRA layer has no lean forward, autocast does that instead.
        """
        import torch

        with (
            torch.inference_mode(),
            contextlib.nullcontext() if self.lean_lora else self.autocast(),
        ):
            yield

    def autocast(self) -> Any:
        """The context that computes a float32 adapter in the dtype of a 16-bit base.

        It does nothing where the adapter's own forward does that.
        """
        import torch

        if self.dtype == "float32" or self.lean_training:
            return contextlib.nullcontext()
        return torch.autocast(self.device.split(":")[0], dtype=self.torch_dtype)
