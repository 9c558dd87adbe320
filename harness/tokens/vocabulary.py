"""A tokenizer's vocabulary as bytes, and its tokens in scripts that a language does not use."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.metrics.hazard import is_off_script

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@lru_cache(maxsize=8)
def token_bytes(tokenizer: PreTrainedTokenizerBase) -> tuple[bytes, ...]:
    """The bytes of each id in byte-level BPE or SentencePiece. Control tokens have none."""
    controls = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    letters = _byte_of_letter()
    byte_level = sum(token.startswith("Ġ") for token in tokens if token) > sum(
        token.startswith("▁") for token in tokens if token
    )
    return tuple(
        b""
        if token_id in controls or token is None
        else _bytes(token, letters if byte_level else None)
        for token_id, token in enumerate(tokens)
    )


@lru_cache(maxsize=32)
def off_script_ids(tokenizer: PreTrainedTokenizerBase, language: str) -> tuple[int, ...]:
    """The ids of tokens in a script that the language does not use."""
    return tuple(
        token_id
        for token_id, piece in enumerate(token_bytes(tokenizer))
        if piece and not piece.isascii() and is_off_script(piece, language)
    )


def _bytes(token: str, letters: dict[str, int] | None) -> bytes:
    if letters is not None:
        return (
            bytes(letters[letter] for letter in token)
            if all(letter in letters for letter in token)
            else token.encode()
        )
    match = _BYTE.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token.replace("▁", " ").encode()


@lru_cache(maxsize=1)
def _byte_of_letter() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones as they are, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(0x100 + at): byte for at, byte in enumerate(hidden)
    }
