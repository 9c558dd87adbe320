"""A model's name or path → model, tokenizer and digest: local folder, GGUF file, hub id, or the packaged SmolLM2, with an adapter on top. Never imports torch by itself."""

from harness.models.adapters import attach_adapter, note_adapter, remove_adapter, switch_adapter
from harness.models.base_record import (
    ADAPTER_FILE,
    BASE_FILE,
    describe_base,
    read_base,
    trained_quantisation,
)
from harness.models.device import Dtype, pick_device, pick_dtype
from harness.models.loaded import LoadedModel
from harness.models.loading import load, load_tokenizer
from harness.models.packaged import PACKAGED
from harness.models.quiet import quiet
from harness.models.source import ModelSource, locate, template_path

__all__ = [
    "ADAPTER_FILE",
    "BASE_FILE",
    "PACKAGED",
    "Dtype",
    "LoadedModel",
    "ModelSource",
    "attach_adapter",
    "describe_base",
    "load",
    "load_tokenizer",
    "locate",
    "note_adapter",
    "pick_device",
    "pick_dtype",
    "quiet",
    "read_base",
    "remove_adapter",
    "switch_adapter",
    "template_path",
    "trained_quantisation",
]
