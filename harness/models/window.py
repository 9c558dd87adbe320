"""How many tokens a model can read at once."""

from __future__ import annotations

from typing import Any

#: Names that configurations of transformers have for it.
_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "context_length")


def context_window(config: Any) -> int | None:
    """The longest text that a model was built for, in tokens, or None if it has no bound.

    Beyond it a model with learned positions fails, and one with rotations is outside its training.
    "dynamic" positions state the length before they are stretched.
    """
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in _NAMES)
    window: int | None = next((n for n in found if isinstance(n, int) and n > 0), None)
    positions = getattr(text, "rope_parameters", None) or {}
    if window and positions.get("rope_type") == "dynamic":
        factor: float = positions.get("factor", 1.0)
        return round(window * factor)
    return window
