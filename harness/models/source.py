"""Finds a model by name or path: a folder, a GGUF file, a packaged model, a hub id."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.files import check_gguf, read_json_object
from harness.models.digest import WEIGHTS, digest_file, digest_folder
from harness.models.packaged import PACKAGED
from harness.models.quiet import first_line
from harness.models.tensor_files import check_tensors, refuse_pointer
from harness.run_file import ADAPTER_CONFIG, base_of, find_adapter, is_trained

#: The files of a tokenizer, and what loads each of them.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
PROCESSOR_TEMPLATE = "chat_template.json"
"""Where the processor of a multimodal model keeps its chat template."""
#: A chat template is in one of these.
_TEMPLATES = ("tokenizer_config.json", "chat_template.jinja", PROCESSOR_TEMPLATE)
#: Small files of settings; transformers overlooks some of them when they are damaged.
_SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    PROCESSOR_TEMPLATE,
)
_INDEX = "model.safetensors.index.json"
OLLAMA = "ollama/"
"""How the name of a model begins that Ollama runs."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, and the digest of its weights, tokenizer and configuration."""

    name: str
    path: str
    gguf: str | None
    digest: str
    stored_as: str = ""
    """How the weights were stored before they were dequantised; "" for those that were not."""

    @property
    def file(self) -> str:
        """The GGUF file, or the folder or hub id, for messages."""
        return str(Path(self.path) / self.gguf) if self.gguf else self.path

    @property
    def folder(self) -> Path:
        """The local folder; for a model of the hub that of its commit, once it was loaded."""
        return (self.on_hub and _hub_snapshot(self.path)) or Path(self.path)

    @property
    def on_hub(self) -> bool:
        """Whether the path is a name on the hub."""
        return self.digest.startswith("hub:")


def locate(name: str) -> ModelSource:
    """Find a model without loading it.

    Raises HarnessError for a name that is no folder, GGUF file, packaged model or hub id, and for
    a folder with a file that is missing, cut or damaged.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        _check_folder(path)
        return ModelSource(path.name, str(path), None, digest_folder(path))
    if path.is_file():
        if path.suffix != ".gguf":
            raise HarnessError(
                "not a model folder and not a .gguf file",
                where=name,
                hint="a model folder holds config.json, *.safetensors and tokenizer.json",
            )
        _check_gguf(path)
        return ModelSource(path.stem, str(path.parent), path.name, digest_file(path), "GGUF")
    if packaged := PACKAGED.get(name.lower()):
        folder, digest = packaged.convert()
        return ModelSource(packaged.name, str(folder), None, digest, packaged.stored_as)
    if name.startswith(OLLAMA):
        raise HarnessError(
            f"{name} runs in Ollama, and its weights and tokenizer are needed here",
            hint="give the model's folder, GGUF file or hub id; harness eval asks Ollama",
        )
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        if os.environ.get("HF_HUB_OFFLINE") == "1" and not _hub_snapshot(name):
            raise HarnessError(
                f"{name!r} is not a local folder, and HF_HUB_OFFLINE=1 forbids the hub",
                hint=f"give a model folder, or {_names()}",
            )
        return ModelSource(name.split("/")[1], name, None, "hub:" + name)
    raise HarnessError(
        f"no model at {name!r}",
        hint=f"give a model folder, a .gguf file, a hub id (owner/name), {_names()}",
    )


def _names() -> str:
    """The packaged models by name."""
    return " or ".join(model.name for model in PACKAGED.values())


def without_adapter(name: str) -> str:
    """The base's name where ``name`` is a run's folder or an adapter's, else the name itself.

    For what an adapter does not change: the tokenizer and the chat template.
    """
    folder = Path(name).expanduser()
    return base_of(*find_adapter(folder)) if is_trained(folder) else name


def template_path(name: str) -> Path:
    """Where a model's template can be read: the path itself, or the folder of a named model.

    Of a run or an adapter it is the base's. From the hub only the tokenizer's small files are
    fetched.
    """
    name = without_adapter(name)
    path = Path(name).expanduser()
    if path.exists():
        return path
    source = locate(name)
    if not source.on_hub:
        return Path(source.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(source.path, allow_patterns=list(_TEMPLATES)))
    except (HfHubHTTPError, OSError) as error:
        raise HarnessError(
            f"cannot fetch the tokenizer's settings: {first_line(error)}", where=name
        ) from None


def optional_file(source: ModelSource, name: str) -> Path | None:
    """A file of a model that not every model has, from its folder or the hub; None without it."""
    from transformers.utils import cached_file

    try:
        found = cached_file(source.path, name)
    except OSError:  # none there, or the hub cannot be reached
        return None
    return Path(found) if found else None


def _hub_snapshot(name: str) -> Path | None:
    """The folder of a hub model in the cache, named after its commit; None before it is there."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # a light installation has no cache of the hub
        return None
    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        hint = (
            "this is an adapter: give it as --adapter and its base as the model"
            if (path / ADAPTER_CONFIG).is_file()
            else "a model folder holds config.json, *.safetensors and tokenizer.json"
        )
        raise HarnessError("the folder holds no config.json", where=str(path), hint=hint)
    if (path / ADAPTER_CONFIG).is_file():  # transformers would load the adapter as well
        raise HarnessError(
            "the folder holds a model and an adapter",
            where=str(path),
            hint="move the adapter's files to a folder of their own and give that as --adapter",
        )
    for name in _SETTINGS:
        if (path / name).is_file():
            read_json_object(path / name)
    _check_weights(path)
    if not any((path / name).is_file() for name in _TOKENIZERS):
        tekken = (path / "tekken.json").is_file()
        raise HarnessError(
            "its only tokenizer is tekken.json, which gives no character offsets"
            if tekken
            else "the folder holds no tokenizer",
            where=str(path),
            hint="put a tokenizer.json beside it: most of these models have one on the hub"
            if tekken
            else "save the tokenizer beside the model: tokenizer.save_pretrained(folder)",
        )


def _check_weights(path: Path) -> None:
    """Raise HarnessError naming the first file of weights that is missing, cut or damaged."""
    files = sorted(file for pattern in WEIGHTS for file in path.glob(pattern))
    if not files:
        raise HarnessError(
            "the folder holds no *.safetensors weights",
            where=str(path),
            hint="pickled weights are never loaded: convert them to safetensors",
        )
    index = path / _INDEX
    if index.is_file() and not (path / "model.safetensors").is_file():
        shards = read_json_object(index).get("weight_map")
        if not isinstance(shards, dict):
            raise HarnessError("weight_map: expected an object", where=str(index))
        for shard in sorted(set(map(str, shards.values()))):
            if not (path / shard).is_file():
                raise HarnessError(
                    f"{shard} is missing", where=str(index), hint="copy or download it again"
                )
    for file in files:
        if file.suffix == ".safetensors":
            check_tensors(file)


def _check_gguf(path: Path) -> None:
    """Raise HarnessError for a file that is no GGUF, or whose metadata is not whole."""
    try:
        with path.open("rb") as stream:
            start = stream.read(32)
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(path)) from None
    refuse_pointer(start, path)
    if not start.startswith(b"GGUF"):
        raise HarnessError("not a GGUF file" if start else "empty", where=str(path))
    check_gguf(path)
