"""The same first word with another lead: ``Oslo`` behind a newline is ``·Oslo`` behind a colon.

A belief about the first token of an answer is carried from one format to another by writing every token of the vocabulary
anew: its text less the one lead, behind the other, and of that the first token. Between formats with the same
lead nothing changes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from harness.encode import first_ids, texts_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

#: What cannot be written behind the other lead: tokens that do not begin with their own.
LEFT_OUT = -1
_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"


@lru_cache(maxsize=64)
def translation(tokenizer: PreTrainedTokenizerBase, size: int, lead: str, other: str) -> torch.Tensor:
    """For each id of a token that opens an answer behind ``lead``, the id that opens it behind ``other``; long [size].

    ``size`` is the width of the logits. A control token keeps its id: it is no word, and what ends an answer is
    mapped by who knows both stops. A piece that is no whole character is joined by its spelling in the
    vocabulary, and where there is no such joint piece the answer begins with the other lead itself.
    """
    import torch

    table = torch.arange(size)
    if lead == other:
        return table
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    words = [id for id in range(min(size, len(tokenizer))) if id not in special]
    texts = texts_of(words, tokenizer)
    kept = [(id, other + text[len(lead) :]) for id, text in zip(words, texts, strict=True) if _whole(text) and text.startswith(lead) and text != lead]
    if lead:
        table[words] = LEFT_OUT
    if kept:
        table[[id for id, _ in kept]] = torch.tensor(first_ids([text for _, text in kept], tokenizer))
    if not lead:
        broken = [id for id, text in zip(words, texts, strict=True) if not _whole(text)]
        _join_bytes(table, tokenizer, broken, other)
    return table


def _whole(text: str) -> bool:
    return _UNDECODABLE not in text


def _join_bytes(table: torch.Tensor, tokenizer: PreTrainedTokenizerBase, ids: list[int], lead: str) -> None:
    """Pieces of a character: lead and piece as one piece of the vocabulary, or else the lead's first token."""
    [opened] = first_ids([lead], tokenizer)
    spelling = tokenizer.convert_ids_to_tokens(opened)
    vocabulary = tokenizer.get_vocab()
    for id, piece in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        table[id] = vocabulary.get(spelling + piece, opened)
