"""Loads a model and its tokenizer, ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.extras import missing_package, not_installed, require
from harness.models.adapters import attach_adapter
from harness.models.device import Dtype, pick_device, pick_dtype
from harness.models.loaded import LoadedModel
from harness.models.quantisation import Quantisation, settle
from harness.models.quiet import first_line, quiet
from harness.models.source import ModelSource, locate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load(
    name: str,
    *,
    adapter: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    quantisation: Quantisation | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer, with an adapter on top if one is given.

    ``dtype="auto"`` takes bfloat16 where the machine computes it natively (CUDA, or a CPU with
    AVX512_BF16 or AMX), else float32. With ``quantisation`` the linear layers are stored in four or
    eight bits and compute in that dtype. Raises HarnessError for a folder without tokenizer or
    weights, for an adapter of another base and for a quantisation that is not available.
    """
    source = locate(name)  # before torch is imported, which takes seconds
    if source.gguf:
        require("gguf", "a GGUF file", name)
    import torch
    from transformers import AutoModelForCausalLM

    where = pick_device() if device == "auto" else device
    chosen = pick_dtype(where) if dtype == "auto" else dtype
    stored = quantisation or Quantisation()
    tokenizer = load_tokenizer(source)
    extra: dict[str, Any] = {"gguf_file": source.gguf} if source.gguf else {}
    if source.gguf and stored:
        raise HarnessError(
            "a GGUF file is quantised already", where=name, hint="quantise a folder of safetensors"
        )
    with quiet():
        extra |= stored.loading(where, chosen, source.path)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                source.path, dtype=getattr(torch, chosen), **extra
            )
        except Exception as error:  # for a damaged file the libraries raise anything
            raise refusal("cannot load the model", error, source.file) from None
    if stored:
        settle(model)
    else:
        model.to(torch.device(where))
    model.eval()
    loaded = LoadedModel(source, model, tokenizer, chosen, where, quantisation=stored)
    if adapter:
        attach_adapter(loaded, adapter)
    return loaded


def refusal(what: str, error: Exception, where: str) -> HarnessError:
    """The one line for what a library raised over a user's file, or for a package it misses."""
    if isinstance(error, HarnessError):
        return error
    if isinstance(error, ImportError) and (missing := missing_package(error)):
        return not_installed(missing, "loading it", where)
    return HarnessError(f"{what}: {first_line(error)}", where=where)


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer. Raises HarnessError when it cannot be read or gives no offsets."""
    from transformers import AutoTokenizer

    extra: dict[str, Any] = {"gguf_file": source.gguf} if source.gguf else {}
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.path, **extra)
        except Exception as error:  # as above
            raise refusal("cannot load the tokenizer", error, source.file) from None
    if not tokenizer.is_fast:
        raise HarnessError(
            "the tokenizer gives no character offsets",
            where=source.path,
            hint="save a tokenizer.json (a fast tokenizer) beside the model",
        )
    return tokenizer
