"""What a GGUF file says of its tokenizer, its context and its sampling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.formats.exchange.gguf_opening import opened_gguf

_CONTROL = 3  # gguf.TokenType
_ENDS = ("eos", "eot", "eom")


@dataclass(frozen=True, slots=True)
class GgufMetadata:
    """The keys of a file that decide how it is run. A missing one is None or empty."""

    template: str
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
        with opened_gguf(path) as reader:
            fields = {key: entry.contents() for key, entry in reader.fields.items()}
        return cls(
            str(fields.get("tokenizer.chat_template", "")),
            frozenset(
                int(fields[key])
                for key in (f"tokenizer.ggml.{name}_token_id" for name in _ENDS)
                if key in fields
            ),
            frozenset(_control(fields)),
            None if (adds := fields.get("tokenizer.ggml.add_bos_token")) is None else bool(adds),
            bool(fields.get("tokenizer.ggml.add_eos_token", False)),
            next((int(fields[key]) for key in fields if key.endswith(".context_length")), None),
            {
                key.rpartition(".")[2]: float(value)
                for key, value in fields.items()
                if key.startswith("general.sampling.") and isinstance(value, int | float)
            },
        )


def _control(fields: dict[str, Any]) -> list[str]:
    tokens = fields.get("tokenizer.ggml.tokens", [])
    kinds = fields.get("tokenizer.ggml.token_type", [])
    return [str(text) for text, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL]
