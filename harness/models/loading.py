"""Loads a model and its tokenizer, ready to run."""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import HarnessError
from harness.extras import is_installed, require
from harness.files import read_json_object
from harness.models.adapters import attach_adapter, trained_quantisation
from harness.models.architecture import build_on_meta, pick_class, read_config
from harness.models.completeness import refuse_incomplete, refuse_too_many_weights
from harness.models.device import (
    DeviceMap,
    Dtype,
    check_device,
    describe_memory,
    is_out_of_memory,
    pick_dtype,
    release,
)
from harness.models.loaded import LoadedModel
from harness.models.quantisation import (
    Quantisation,
    Storage,
    choose_storage,
    gguf_arguments,
    refuse_odd_blocks,
    settle,
)
from harness.models.quiet import no_bars_of, quiet, refusal
from harness.models.source import PROCESSOR_TEMPLATE, ModelSource, locate, optional_file
from harness.run_file import base_of, find_adapter, is_trained
from harness.tokens.encode import eos_text

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

T = TypeVar("T")


def load(
    name: str,
    *,
    adapter: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    device_map: DeviceMap | dict[str, Any] = "",
    quantisation: Quantisation | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer, with an adapter on top if one is given.

    ``dtype="auto"`` takes bfloat16 where the machine computes it natively (CUDA, or a CPU with
    AVX512_BF16 or AMX), else float32. With ``quantisation`` the linear layers are stored in four or
    eight bits and compute in that dtype. ``device_map`` lays a model over several devices, for
    inference only; its inputs go to the device of its embedding.

    Raises HarnessError for a folder without tokenizer or weights, for weights that do not match the
    configuration, for a model that does not predict the next token, for an adapter of another base,
    for a quantisation or a device that is not available, and where the memory ends.
    """
    source = locate(name)  # before torch is imported, which takes seconds
    asked = quantisation or Quantisation()
    _refuse_excluded(source, name, asked, device=device, device_map=bool(device_map))
    where = check_device(device)
    chosen = pick_dtype(where) if dtype == "auto" else dtype
    config = read_config(source)
    auto_class = pick_class(config, source.file)
    tokenizer = load_tokenizer(source, config)
    with quiet():
        storage = choose_storage(config, asked, where, chosen, source.file)
    on_meta = build_on_meta(copy.deepcopy(config), auto_class, source.file)
    refuse_too_many_weights(on_meta, source)
    in_place = {"": where} if _may_load_in_place(where, storage, source) else None
    placed = {"device_map": device_map or in_place} if device_map or in_place else {}

    def read() -> Any:
        arguments = {**storage.arguments, **placed}
        model = _read_weights(auto_class, config, source, dtype=chosen, **arguments)
        if storage.stored_as:
            refuse_odd_blocks(source.folder, storage.block)
        if storage.quantisation or storage.stored_as:
            settle(model)
        return model if placed or storage.quantisation else model.to(where)

    model = _with_memory(source, where, asked, read).eval()
    if device_map:
        where = _input_device(model)
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


def _refuse_excluded(
    source: ModelSource, name: str, asked: Quantisation, *, device: str, device_map: bool
) -> None:
    """Refuse arguments that exclude each other, and those that need a missing package."""
    if source.gguf:
        require("gguf", "a GGUF file", name)
    if source.gguf and asked:
        raise HarnessError(
            "a GGUF file is quantised already", where=name, hint="quantise a folder of safetensors"
        )
    if device_map and device != "auto":
        raise HarnessError("device and device_map exclude each other", hint="leave one of them out")
    if device_map:
        require("accelerate", "a model on several devices", name)


def _may_load_in_place(device: str, storage: Storage, source: ModelSource) -> bool:
    """Whether each weight goes from its file to the card, without a whole copy in host memory.

    transformers dequantises GGUF, FP8 and MXFP4 files where they are loaded, and in host memory
    that is the same on every machine; bitsandbytes brings a map of its own.
    """
    plain = not (storage.quantisation or storage.stored_as or source.gguf)
    return plain and device.startswith("cuda") and is_installed("accelerate")


def _input_device(model: Any) -> str:
    """Where the inputs of a model belong that lies on several devices."""
    import torch

    embedding = model.get_input_embeddings()
    place = getattr(getattr(embedding, "_hf_hook", None), "execution_device", None)
    return str(torch.device(embedding.weight.device if place is None else place))


def _with_memory(
    source: ModelSource,
    device: str,
    asked: Quantisation,
    run: Callable[[], T],
) -> T:
    """What ``run`` returns. Raises HarnessError where the memory ends, with its size."""
    try:
        return run()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    release(device)  # what was loaded of it, now that no traceback holds it
    files = [source.folder / source.gguf] if source.gguf else source.folder.glob("*.safetensors")
    size = sum(file.stat().st_size for file in files)
    smaller = [] if asked or source.gguf else ["--load-in-4bit"]
    smaller += ["--device cpu", "--device-map auto"] if device != "cpu" else []
    raise HarnessError(
        f"out of memory while loading: its weights are {size / 2**30:.1f} GiB in the files "
        f"({describe_memory(device)})",
        where=source.file,
        hint=f"try {', '.join(smaller)}" if smaller else "",
    )


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
            if is_out_of_memory(error):
                raise
            raise refusal("cannot load the model", error, source.file) from None
    if getattr(model, "_hf_peft_config_loaded", False):  # of the hub; locate sees it in a folder
        raise HarnessError(
            "it holds a model and an adapter, which were loaded together",
            where=source.file,
            hint="download it, and give the adapter as --adapter from a folder of its own",
        )
    refuse_incomplete(model, info, source.file)
    return model


def load_trained(name: str) -> LoadedModel:
    """Load a model by name; of a run's folder or an adapter's its base with that adapter.

    The base is quantised as it was in the training. Raises as ``load``.
    """
    folder = Path(name).expanduser()
    if not is_trained(folder):
        return load(name)
    adapter, run = find_adapter(folder)
    base = base_of(adapter, run)
    return load(base, adapter=str(adapter), quantisation=trained_quantisation(adapter))


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
