"""What a GGUF file says of its tokenizer, its context and its sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.formats.exchange.gguf_opening import (
    adds_bos,
    control_tokens,
    gguf_fields,
    gguf_tokens,
)

EOS_KEY = "tokenizer.ggml.eos_token_id"
_ENDS = ("eos", "eot", "eom")
_SAMPLING = "general.sampling."


@dataclass(frozen=True, slots=True)
class GgufMetadata:
    """The keys of a file that decide how it is run. A missing one is None or empty."""

    template: str
    tokens: dict[str, str]
    """The texts of BOS and EOS, as ``bos_token`` and ``eos_token``."""
    end_ids: frozenset[int]
    """``eos_token_id``, ``eot_token_id`` and ``eom_token_id``."""
    control: frozenset[str]
    """The texts of all control tokens."""
    adds_bos: bool | None
    adds_eos: bool
    context: int | None
    """Tokens of context that the model was made for."""
    sampling: dict[str, float]
    """``general.sampling.*`` by its last word, such as ``temp``."""

    @classmethod
    def read(cls, path: Path) -> GgufMetadata:
        """Read a file's metadata. Raises HarnessError for a damaged one."""
        return cls.of(gguf_fields(path))

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> GgufMetadata:
        """The metadata by its keys, as in a file or in Ollama's ``model_info``."""
        ends = (fields.get(f"tokenizer.ggml.{name}_token_id") for name in _ENDS)
        contexts = (value for key, value in fields.items() if key.endswith(".context_length"))
        return cls(
            template=str(fields.get("tokenizer.chat_template") or ""),
            tokens=gguf_tokens(fields),
            end_ids=frozenset(one for one in ends if isinstance(one, int)),
            control=frozenset(control_tokens(fields)),
            adds_bos=adds_bos(fields),
            adds_eos=bool(fields.get("tokenizer.ggml.add_eos_token")),
            context=next((one for one in contexts if isinstance(one, int)), None),
            sampling={
                key.removeprefix(_SAMPLING): float(value)
                for key, value in fields.items()
                if key.startswith(_SAMPLING) and isinstance(value, int | float)
            },
        )
