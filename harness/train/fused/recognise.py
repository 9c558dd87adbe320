"""Whether the fused decoder trains what is to be trained. Everything else trains through transformers and peft."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.backends.arithmetic import products_in
from harness.llama.recognise import take_apart
from harness.train.fused.model import Decoder

if TYPE_CHECKING:
    from harness.models import LoadedModel


def find(loaded: LoadedModel, longest: int) -> Decoder | None:
    """The model as a fused decoder, or None if a part is not plain (``take_apart``) or anything but its LoRA factors is trained."""
    parts = take_apart(loaded, longest)
    if parts is None:
        return None
    known = {id(parameter) for layer in parts.layers for parameter in layer.parameters()}
    trained = {id(parameter) for parameter in loaded.model.parameters() if parameter.requires_grad}
    return Decoder(parts, products_in(loaded)) if trained == known else None
