"""Loads a model and its tokenizer, ready to run."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.extras import is_installed, require
from harness.files import read_json_object
from harness.models.adapters import attach_adapter
from harness.models.architecture import pick_class, read_config
from harness.models.completeness import refuse_incomplete
from harness.models.device import Dtype, pick_device, pick_dtype
from harness.models.loaded import LoadedModel
from harness.models.quantisation import (
    Quantisation,
    choose_storage,
    gguf_arguments,
    refuse_odd_blocks,
    settle,
)
from harness.models.quiet import no_bars_of, quiet, refusal
from harness.models.source import PROCESSOR_TEMPLATE, ModelSource, locate, optional_file
from harness.tokens.encode import eos_text

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


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
    weights, for weights that do not match the configuration, for a model that does not predict the
    next token, for an adapter of another base and for a quantisation that is not available.
    """
    source = locate(name)  # before torch is imported, which takes seconds
    if source.gguf:
        require("gguf", "a GGUF file", name)
    where = pick_device() if device == "auto" else device
    chosen = pick_dtype(where) if dtype == "auto" else dtype
    asked = quantisation or Quantisation()
    if source.gguf and asked:
        raise HarnessError(
            "a GGUF file is quantised already", where=name, hint="quantise a folder of safetensors"
        )
    config = read_config(source)
    auto_class = pick_class(config, source.file)
    tokenizer = load_tokenizer(source, config)
    with quiet():
        storage = choose_storage(config, asked, where, chosen, source.file)
    model = _read_weights(auto_class, config, source, dtype=chosen, **storage.arguments)
    if storage.stored_as:
        refuse_odd_blocks(source.folder, storage.block)
    if storage.quantisation or storage.stored_as:
        settle(model)
    if not storage.quantisation:
        model.to(where)
    model.eval()
    loaded = LoadedModel(
        source,
        model,
        tokenizer,
        chosen,
        where,
        quantisation=storage.quantisation,
        stored_as=storage.stored_as or source.stored_as,
        commit=source.folder.name if source.on_hub else "",
    )
    if loaded.stored_as:
        _say_once(f"{loaded.name}: weights dequantised from {loaded.stored_as}")
    if adapter:
        attach_adapter(loaded, adapter)
    return loaded


@functools.cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _read_weights(auto_class: Any, config: Any, source: ModelSource, **extra: Any) -> Any:
    """The model with its weights. Raises HarnessError when not all of them are in its files."""
    bars: Any = contextlib.nullcontext()
    if source.gguf:
        extra |= gguf_arguments(source.gguf)
        bars = no_bars_of("transformers.modeling_gguf_pytorch_utils")
    else:
        extra["use_safetensors"] = True
    with quiet(), bars:
        try:
            model, info = auto_class.from_pretrained(
                source.path,
                config=config,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **extra,
            )
        except Exception as error:  # for a damaged file the libraries raise anything
            raise refusal("cannot load the model", error, source.file) from None
    if getattr(model, "_hf_peft_config_loaded", False):  # of the hub; locate sees it in a folder
        raise HarnessError(
            "it holds a model and an adapter, which were loaded together",
            where=source.file,
            hint="download it, and give the adapter as --adapter from a folder of its own",
        )
    refuse_incomplete(model, info, source.file)
    return model


def load_tokenizer(
    source: ModelSource, config: PreTrainedConfig | None = None
) -> PreTrainedTokenizerBase:
    """Load a model's fast tokenizer, with the chat template of its processor if it has no other.

    Raises HarnessError when it cannot be read, gives no character offsets or has no EOS, and for a
    model that does not predict the next token.
    """
    from transformers import AutoTokenizer

    if config is None:
        config = read_config(source)
        pick_class(config, source.file)
    extra: dict[str, Any] = {"gguf_file": source.gguf} if source.gguf else {"config": config}
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.path, trust_remote_code=False, **extra)
        except Exception as error:  # as above
            raise _tokenizer_refusal(error, source) from None
    if not getattr(tokenizer, "is_fast", False):
        raise HarnessError(
            "the tokenizer gives no character offsets",
            where=source.path,
            hint="save a tokenizer.json (a fast tokenizer) beside the model",
        )
    eos_text(tokenizer)  # nothing could end an answer
    if not tokenizer.chat_template and not source.gguf:
        tokenizer.chat_template = _processor_template(source)
    return tokenizer


def _tokenizer_refusal(error: Exception, source: ModelSource) -> HarnessError:
    """Name the file that is damaged, or the package that it needs."""
    folder = Path(source.path)
    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            read_json_object(file)
        except HarnessError as damaged:
            return damaged
    elif (folder / "tokenizer.model").is_file() and not is_installed("sentencepiece"):
        return HarnessError(
            "its only tokenizer is tokenizer.model, which needs sentencepiece",
            where=source.path,
            hint="pip install sentencepiece protobuf, or put a tokenizer.json beside it",
        )
    return refusal("cannot load the tokenizer", error, source.file)


def _processor_template(source: ModelSource) -> str | None:
    """The chat template in the file of a processor, which AutoTokenizer does not read."""
    file = optional_file(source, PROCESSOR_TEMPLATE)
    template = read_json_object(file).get("chat_template") if file else None
    return template if isinstance(template, str) else None
