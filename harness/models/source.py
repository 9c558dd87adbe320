"""Finds a model by name or path: a folder, a GGUF file, the packaged SmolLM2, a hub id."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.models.digest import WEIGHTS, digest_file, digest_folder
from harness.models.packaged import NAME, PACKAGED, packaged_model
from harness.models.quiet import first_line


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, and the digest of its weights, tokenizer and configuration."""

    name: str
    path: str
    gguf: str | None
    digest: str

    @property
    def file(self) -> str:
        """The GGUF file, or the folder or hub id, for messages."""
        return str(Path(self.path) / self.gguf) if self.gguf else self.path


def locate(name: str) -> ModelSource:
    """Find a model without loading it.

    Raises HarnessError for a name that is no folder, GGUF file, packaged model or hub id.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        _check_folder(path)
        return ModelSource(path.name, str(path), None, digest_folder(path))
    if path.is_file():
        if path.suffix != ".gguf":
            raise HarnessError("not a model folder and not a .gguf file", where=name)
        return ModelSource(path.stem, str(path.parent), path.name, digest_file(path))
    if name.lower() in PACKAGED and os.environ.get("HARNESS_MODEL_SOURCE") != "hub":
        folder, digest = packaged_model()
        return ModelSource(NAME, str(folder), None, digest)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            raise HarnessError(
                f"{name!r} is not a local folder, and HF_HUB_OFFLINE=1 forbids the hub",
                hint="give a model folder, or --model SmolLM2-135M-Instruct",
            )
        return ModelSource(name.split("/")[1], name, None, "hub:" + name)
    raise HarnessError(
        f"no model at {name!r}",
        hint="give a model folder, a .gguf file, a hub id (owner/name) or SmolLM2-135M-Instruct",
    )


def template_path(name: str) -> Path:
    """Where a model's template can be read: the path itself, or the folder of a named model.

    From the hub only the tokenizer's small files are fetched.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    source = locate(name)
    if not source.digest.startswith("hub:"):
        return Path(source.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(
            snapshot_download(
                source.path, allow_patterns=["tokenizer_config.json", "chat_template.jinja"]
            )
        )
    except (HfHubHTTPError, OSError) as error:
        raise HarnessError(
            f"cannot fetch the tokenizer's settings: {first_line(error)}", where=name
        ) from None


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        hint = (
            "this is an adapter: give it as --adapter and its base as the model"
            if (path / "adapter_config.json").is_file()
            else "a model folder holds config.json, *.safetensors and tokenizer.json"
        )
        raise HarnessError("the folder holds no config.json", where=str(path), hint=hint)
    if not any(any(path.glob(pattern)) for pattern in WEIGHTS):
        raise HarnessError(
            "the folder holds no *.safetensors weights",
            where=str(path),
            hint="pickled weights are never loaded: convert them to safetensors",
        )
    if not any(
        (path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise HarnessError(
            "the folder holds no tokenizer",
            where=str(path),
            hint="save the tokenizer beside the model: tokenizer.save_pretrained(folder)",
        )
