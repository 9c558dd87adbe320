"""The model folder that transformers and vLLM load, and from which GGUF files are made."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.files import read_json_object
from harness.models import load_tokenizer
from harness.models.quiet import first_line
from harness.models.source import PROCESSOR_TEMPLATE, ModelSource
from harness.ship.trained_model import Trained
from harness.tokens.encode import bos_text
from harness.training.share.export import check_rendering, write_generation, write_tokenizer
from harness.training.share.merge import PlainDtype, merge
from harness.training.share.processor_files import copy_processor

FOLDER = "hf"
_WEIGHTS = ("*.safetensors", "model.safetensors.index.json", "config.json")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The folder, and how its answers end: texts, and the ids of those that are one token."""

    path: Path
    dtype: str
    template: str
    stops: tuple[str, ...]
    stop_ids: tuple[int, ...]
    text_stops: tuple[str, ...]
    """The stops that are plain text: a runtime must compare them with what it wrote."""
    bos: str
    """The BOS that the format writes for this model; "" if the model is trained without it."""
    eos: str


def write_model_folder(
    trained: Trained, folder: Path, dtype: PlainDtype, device: str
) -> ModelFolder:
    """Merge the adapter, or copy the model, and write the format as its chat template.

    transformers reads the tokenizer again, and must render the format as we do. Raises HarnessError
    as ``merge`` and ``export`` do, and for a model that is not stored as plain safetensors.
    """
    if trained.adapter is None:
        dtype_written = _copy(trained.source, folder)
    else:
        merge(
            trained.adapter,
            trained.base,
            folder,
            dtype,
            quantisation=trained.stored,
            device=device,
        )
        dtype_written = dtype
    merged = ModelSource(trained.source.name, str(folder), None, "")
    tokenizer = load_tokenizer(merged if trained.adapter else trained.source)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / PROCESSOR_TEMPLATE).unlink(missing_ok=True)  # the template is the format
    template = write_tokenizer(tokenizer, trained.format, folder)
    text_stops = write_generation(tokenizer, trained.format, folder)
    check_rendering(folder, template, trained.format, tokenizer)
    ids = read_json_object(folder / "generation_config.json")["eos_token_id"]
    ids = ids if isinstance(ids, list) else [ids]
    texts = tuple(tokenizer.convert_ids_to_tokens(ids))
    return ModelFolder(
        folder,
        dtype_written,
        template,
        tuple(dict.fromkeys((*trained.format.stops, *texts))),
        tuple(ids),
        text_stops,
        bos_text(tokenizer),
        tokenizer.eos_token or "",
    )


def _copy(source: ModelSource, folder: Path) -> str:
    """Copy the weights of a model folder byte for byte. Returns their dtype."""
    place = _local(source)
    config = read_json_object(place / "config.json")
    if "quantization_config" in config:
        raise HarnessError(
            "its weights are quantised, and a GGUF file is made from unquantised ones",
            where=source.file,
            hint="ship the unquantised model",
        )
    folder.mkdir(parents=True)
    for pattern in _WEIGHTS:
        for file in sorted(place.glob(pattern)):
            shutil.copyfile(file, folder / file.name)
    copy_processor(source, folder, but=(PROCESSOR_TEMPLATE,))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _local(source: ModelSource) -> Path:
    """The folder of a model; one of the hub is fetched first."""
    if not source.on_hub:
        return source.folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source.path, allow_patterns=["*.json", "*.safetensors"]))
    except OSError as error:  # httpx's and the hub's own errors are OSErrors
        raise HarnessError(f"cannot fetch the model: {first_line(error)}", source.path) from None
