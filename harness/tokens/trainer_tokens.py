"""A tokenizer and its chat template, as the masking rules of other trainers use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.formats.trainers.trainer_mask import ChatTemplate, Token, guarded_template
from harness.tokens.encode import special_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def template_of(
    tokenizer: PreTrainedTokenizerBase,
    source: str | None = None,
    *,
    where: str = "",
    switches: Mapping[str, Any] | None = None,
) -> ChatTemplate:
    """The tokenizer's chat template, or another one, with the tokenizer's tokens."""

    def tokenise(text: str) -> list[Token]:
        batch = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [
            Token(number, *place)
            for number, place in zip(batch["input_ids"], batch["offset_mapping"], strict=True)
        ]

    bos = str(tokenizer.bos_token or "")
    return guarded_template(
        str(tokenizer.chat_template) if source is None else source,
        bos_token=bos,
        eos_token=str(tokenizer.eos_token or ""),
        tokenise=tokenise,
        special=special_texts(tokenizer),
        adds_bos=bool(bos) and tokenizer.bos_token_id in tokenizer("").input_ids,
        where=where or str(tokenizer.name_or_path),
        switches=switches,
    )
