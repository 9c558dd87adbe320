"""Control tokens added to a base: in its tokenizer, and as rows of its embeddings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.models.loaded import LoadedModel
from harness.models.quiet import quiet
from harness.tokens.encode import special_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def with_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer that knows these control tokens.

    It is a copy because results computed for a tokenizer are cached.
    """
    grown = copy.deepcopy(tokenizer)
    grown.add_special_tokens(
        {"additional_special_tokens": list(texts)}, replace_extra_special_tokens=False
    )
    return grown


def add_tokens(loaded: LoadedModel, texts: Sequence[str]) -> None:
    """Add the control tokens that are missing to the tokenizer, and rows for them to the model.

    New rows of the embeddings and of the head are the mean of the others.
    """
    import torch

    texts = [text for text in texts if text not in special_texts(loaded.tokenizer)]
    if not texts:
        return
    loaded.tokenizer = with_tokens(loaded.tokenizer, texts)
    vars(loaded).pop("tokenizer_digest", None)  # it was computed of the old tokenizer
    loaded.added_tokens = (*loaded.added_tokens, *texts)
    model: Any = loaded.model
    rows = model.get_input_embeddings().weight.shape[0]
    if len(loaded.tokenizer) <= rows:  # the vocabulary was padded: rows are there
        return
    with quiet(), torch.no_grad():
        model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=False)
        for layer in {
            id(layer): layer
            for layer in (model.get_input_embeddings(), model.get_output_embeddings())
            if layer is not None
        }.values():
            layer.weight[rows:] = layer.weight[:rows].float().mean(0).to(layer.weight.dtype)
