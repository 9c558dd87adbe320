"""Control tokens that a format needs and the base lacks or has never trained: added to the tokenizer, their embeddings trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.encode import special_texts
from harness.fit import control_strings, untrained
from harness.models.tokens import grow
from harness.records import Format

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.models import LoadedModel

#: Spelt so, a string is a token wherever it is used; [INST] or ### are not.
_TOKEN_SHAPE = re.compile(r"<\|[^\s|<>]+\|>|<｜[^｜<>]+｜>")


def missing_tokens(tokenizer: PreTrainedTokenizerBase, formats: Iterable[Format]) -> tuple[str, ...]:
    """What these formats write as control tokens and the tokenizer would spell out.

    Control tokens are strings of the shape ``<|…|>``, and those spelt like a stop token that the format declares: with
    ``<end_of_turn>`` declared, ``<start_of_turn>`` is one too. Stop tokens that a format never writes are left out,
    since nothing would train them.
    """
    known = special_texts(tokenizer)
    needed: set[str] = set()
    for format in formats:
        shapes = {_shape(token) for token in format.stop_tokens}
        needed |= {text for text in control_strings(format, tokenizer) if _TOKEN_SHAPE.fullmatch(text) or _shape(text) in shapes}
    return tuple(sorted(needed - set(known)))


def _shape(text: str) -> tuple[str, str]:
    """How a control string opens and closes: ``[/INST]`` → ``[``, ``]``."""
    inner = text.strip("<>[]|｜/")
    opens, _, closes = text.partition(inner)
    return opens.replace("/", ""), closes


def add_control_tokens(loaded: LoadedModel, formats: Sequence[Format]) -> None:
    """Give a loaded base the control tokens that these formats need, and note which embeddings an adapter must train.

    New rows of the embedding begin as its mean, so that nothing is drawn by chance. Noted are the new ids and those
    of the formats' tokens whose embedding is so short that the base cannot have trained it.
    """
    import torch

    texts = missing_tokens(loaded.tokenizer, formats)
    norms = torch.linalg.vector_norm(loaded.model.get_input_embeddings().weight.detach().float(), dim=1).cpu().numpy()
    strings = {text for format in formats for text in control_strings(format, loaded.tokenizer)}
    idle = untrained(loaded.tokenizer, sorted(strings), norms)
    grow(loaded, texts)
    loaded.trained_tokens = tuple(sorted({loaded.tokenizer.convert_tokens_to_ids(text) for text in (*loaded.added_tokens, *idle)}))


def indices_by_layer(model: Any, ids: Sequence[int]) -> list[int] | dict[str, list[int]] | None:
    """peft's ``trainable_token_indices``: one list where the head is tied to the embedding, one a layer where it is not."""
    if not ids:
        return None
    if getattr(model.config, "tie_word_embeddings", False):
        return list(ids)
    names = {id(module): name.rsplit(".", 1)[-1] for name, module in model.named_modules()}
    return {names[id(layer)]: list(ids) for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
