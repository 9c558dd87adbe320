"""Whether a model can be run on packs and slots: its attention must take a bias of ours and positions of ours."""

from __future__ import annotations

import inspect
from typing import Any

from harness.backends.packing import pack, tensors
from harness.models import LoadedModel

_TAKES_A_BIAS = ("sdpa", "eager")
_TEXTS = (
    "The capital of France is Paris. The capital of Italy is Rome, and the capital of",
    "The capital of France is Paris. It lies on a river, and people come from far to",
)
#: Relative error of 16-bit logits. SmolLM2 in bfloat16 was off by 0.03 in packs, by 0.5 at wrong positions and by 1.0 under a wrong mask.
_NOISE = 0.2
_LIKE_FULL = ("full_attention", "sliding_attention")


#: What stands for "no limit".
NO_END = 1 << 30
#: A pack's mask has the square of its length; longer sequences are run on rows of their own, which need none.
MOST_PACKED = 1 << 14


def longest_packed(loaded: LoadedModel) -> int:
    """The longest sequence that the model reads rightly in a pack; 0 if it can be packed not at all.

    Within its window, sliding attention is full attention. Models with a state (Mamba), attention in chunks, or positions
    taken from the mask are run on padded rows. What the configuration does not tell, a pass over two short sequences does.
    """
    found = getattr(loaded, "_longest_packed", None)
    if found is None:
        window = _window(loaded)
        found = window if _reads_packs(loaded, window) else 0
        loaded._longest_packed = found  # type: ignore[attr-defined]  # once a model, not once a backend
    return int(found)


def most_positions(loaded: LoadedModel) -> int:
    """The most tokens that the model has positions for."""
    return int(getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None) or NO_END)


def _window(loaded: LoadedModel) -> int:
    config = loaded.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if window and (kinds is None or "sliding_attention" in kinds):
        return int(window)
    return MOST_PACKED


def _reads_packs(loaded: LoadedModel, window: int) -> bool:
    model: Any = loaded.model
    config = model.config.get_text_config()
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes = inspect.signature(inner.forward).parameters
    if config._attn_implementation not in _TAKES_A_BIAS or getattr(inner, "_is_stateful", False) or not {"position_ids", "past_key_values"} <= set(takes):
        return False
    if any(kind not in _LIKE_FULL for kind in getattr(config, "layer_types", None) or ()):
        return False
    return _agrees(loaded, window)


def _agrees(loaded: LoadedModel, window: int) -> bool:
    """Whether two sequences with a common beginning give in a pack what they give alone."""
    import torch

    sequences = [loaded.tokenizer(text, add_special_tokens=False).input_ids[:window] for text in _TEXTS]
    [tree] = pack([sequences])
    ids, positions, bias = tensors([tree], getattr(torch, loaded.dtype), loaded.device)
    with loaded.inference():
        packed = loaded.model(input_ids=ids, attention_mask=bias, position_ids=positions, use_cache=False).logits[0].float()
        for sequence, path in zip(sequences, tree.paths[0], strict=True):
            plain = loaded.model(input_ids=torch.tensor([sequence], device=loaded.device), use_cache=False).logits[0].float()
            off = (packed[path] - plain).norm() / (plain - plain.mean(-1, keepdim=True)).norm()
            if not bool(off < (1e-3 if loaded.dtype == "float32" else _NOISE)):
                return False
    return True
