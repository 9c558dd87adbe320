"""The probability that the next token is in a script that a language does not use."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from harness.models import LoadedModel
from harness.tokens.vocabulary import off_script_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

#: Rows converted to float32 at a time, so that a large vocabulary stays in the CPU's caches.
_ROWS = 32


def off_script_mass(logits: torch.Tensor, loaded: LoadedModel, language: str) -> torch.Tensor:
    """Logits [positions, vocabulary] → probability of tokens of other scripts, [positions]."""
    import torch

    flags = _flags(loaded.tokenizer, language, logits.shape[1], str(logits.device))
    found = []
    for at in range(0, len(logits), _ROWS):
        weights = logits[at : at + _ROWS].float()
        weights = (weights - weights.amax(-1, keepdim=True)).exp_()
        found.append((weights @ flags) / weights.sum(-1))
    return torch.cat(found)


@lru_cache(maxsize=16)
def _flags(
    tokenizer: PreTrainedTokenizerBase, language: str, size: int, device: str
) -> torch.Tensor:
    import torch

    flags = torch.zeros(size)
    flags[list(off_script_ids(tokenizer, language))] = 1
    return flags.to(device)
