"""What an adapter remembers of the base it was trained on: a file beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.models.loaded import LoadedModel
from harness.models.quantisation import Quantisation

ADAPTER_FILE = "adapter_model.safetensors"
BASE_FILE = "base.json"
"""Written beside an adapter: the digest and shape of the base it was trained on."""


def describe_base(loaded: LoadedModel) -> dict[str, Any]:
    """What an adapter remembers of its base."""
    config = loaded.model.config
    return {
        "name": loaded.name,
        "digest": loaded.source.digest,
        "model_type": config.model_type,
        "hidden_size": getattr(config, "hidden_size", None),
        "num_hidden_layers": getattr(config, "num_hidden_layers", None),
        "vocab_size": getattr(config, "vocab_size", None),
        "dtype": loaded.dtype,
        "quantisation": loaded.quantisation.as_dict() if loaded.quantisation else None,
        "added_tokens": list(loaded.added_tokens),
    }


def read_base(folder: Path) -> dict[str, Any]:
    """What an adapter remembers of its base; nothing for one of a foreign trainer."""
    file = folder / BASE_FILE
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def trained_quantisation(folder: Path) -> Quantisation:
    """How the base was stored when this adapter was trained."""
    return Quantisation(**(read_base(folder).get("quantisation") or {}))
