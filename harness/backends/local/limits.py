"""Lengths that a model's configuration sets: positions, windows, its rotation's turn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from harness.models import LoadedModel
from harness.models.architecture import context_window

#: Means "no limit".
NO_LIMIT = 1 << 30

_WINDOW = re.compile(r"window|chunk|block_size|index_topk")
#: Numbers beside a window: of layers, heads or blocks, of a convolution, of a way to save memory.
_NO_WINDOW = re.compile(r"layer|pattern|kernel|^num_|^n_|feed_forward|lm_head|before|after")
#: Of the window-like numbers, those that limit which keys a token attends to.
_OF_ATTENTION = re.compile(r"window|attention_chunk")


def most_positions(loaded: LoadedModel) -> int:
    """The most tokens that the model has positions for."""
    return context_window(loaded.model.config) or NO_LIMIT


def windows(loaded: LoadedModel) -> list[int]:
    """Every number of the configuration that may be a length in tokens at which something changes.

    Windows of attention, chunks of attention or of a state's scan, blocks, the keys that an indexer
    leaves to attention.
    """
    return [value for _, value in _windows(text_config(loaded))]


def attention_window(loaded: LoadedModel) -> int:
    """The longest row that no window of attention cuts."""
    config = text_config(loaded)
    kinds = getattr(config, "layer_types", None)
    slides = kinds is None or "sliding_attention" in kinds
    found = [
        value
        for name, value in _windows(config)
        if _OF_ATTENTION.search(name) and (slides or name != "sliding_window")
    ]
    return min(found, default=NO_LIMIT)


def rotation_turn(loaded: LoadedModel) -> int:
    """The longest row that is rotated as short ones are; NO_LIMIT where all are rotated alike.

    A longrope model rotates all rows of a batch by its long factors as soon as one of them is
    longer. "dynamic" positions turn where the model's positions end, and no row is longer.
    """
    config = text_config(loaded)
    settings = getattr(config, "rope_parameters", None) or {}
    tables = [settings, *(value for value in settings.values() if isinstance(value, dict))]
    turns = [
        table.get("original_max_position_embeddings") or most_positions(loaded)
        for table in tables
        if table.get("rope_type") == "longrope"
    ]
    return int(min(turns, default=NO_LIMIT))


def text_config(loaded: LoadedModel) -> Any:
    """The configuration of the language model, which may be a part of a larger one."""
    return loaded.model.config.get_text_config()


def _windows(config: Any) -> Iterator[tuple[str, int]]:
    for name, value in sorted(vars(config).items()):
        if not _WINDOW.search(name) or _NO_WINDOW.search(name):
            continue
        for length in value if isinstance(value, list | tuple) else [value]:
            if isinstance(length, int) and not isinstance(length, bool) and length > 1:
                yield name, length
