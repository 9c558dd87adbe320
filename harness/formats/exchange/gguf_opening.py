"""Open a GGUF file that may be damaged, and read its metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.extras import require
from harness.files import check_gguf

if TYPE_CHECKING:
    from gguf import GGUFReader

_CONTROL = 3  # TokenType of gguf
_MERGES = "tokenizer.ggml.merges"


@contextmanager
def opened_gguf(path: Path) -> Iterator[GGUFReader]:
    """The reader of the package gguf for this file.

    Raises HarnessError without that package, for a file whose metadata is not whole, and for
    whatever the reader raises inside the block, since it raises anything for a damaged file.
    """
    require("gguf", "reading a GGUF file", str(path))
    from gguf import GGUFReader

    check_gguf(path)
    try:
        yield GGUFReader(path)
    except HarnessError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise HarnessError(f"not a GGUF file, or damaged: {reason}", where=str(path)) from None


def gguf_fields(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file but its merges. Raises HarnessError for a damaged file."""
    with opened_gguf(path) as reader:
        entries = reader.fields.items()
        return {key: entry.contents() for key, entry in entries if key != _MERGES}


def gguf_tokens(fields: Mapping[str, Any]) -> dict[str, str]:
    """The texts of BOS and EOS, as ``bos_token`` and ``eos_token``."""
    texts = vocabulary(fields)
    ids = {name: fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    return {
        f"{name}_token": texts[number]
        for name, number in ids.items()
        if isinstance(number, int) and 0 <= number < len(texts) and texts[number]
    }


def control_tokens(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of all tokens whose type is CONTROL."""
    kinds = _list(fields, "token_type")
    pairs = zip(vocabulary(fields), kinds, strict=False)
    return tuple(text for text, kind in pairs if kind == _CONTROL)


def vocabulary(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of all tokens, by their ids."""
    return tuple(map(str, _list(fields, "tokens")))


def adds_bos(fields: Mapping[str, Any]) -> bool | None:
    """Whether the tokenizer puts a BOS before each text; None where the file does not say."""
    adds = fields.get("tokenizer.ggml.add_bos_token")
    return None if adds is None else bool(adds)


def _list(fields: Mapping[str, Any], key: str) -> list[Any]:
    value = fields.get(f"tokenizer.ggml.{key}")
    return value if isinstance(value, list) else []
