"""Models on this machine: found by name or path, loaded with an adapter, identified by a digest.

Importing this package does not import torch.
"""

from harness.models.adapter_weights import ADAPTER_FILE
from harness.models.adapters import (
    BASE_FILE,
    attach_adapter,
    describe_base,
    note_adapter,
    read_base,
    remove_adapter,
    require_base,
    switch_adapter,
    trained_quantisation,
)
from harness.models.device import DeviceMap, Dtype, pick_device, pick_dtype
from harness.models.loaded import LoadedModel
from harness.models.loading import load, load_tokenizer, load_trained
from harness.models.packaged import PACKAGED
from harness.models.quiet import quiet
from harness.models.source import ModelSource, locate, template_path, without_adapter

__all__ = [
    "ADAPTER_FILE",
    "BASE_FILE",
    "PACKAGED",
    "DeviceMap",
    "Dtype",
    "LoadedModel",
    "ModelSource",
    "attach_adapter",
    "describe_base",
    "load",
    "load_tokenizer",
    "load_trained",
    "locate",
    "note_adapter",
    "pick_device",
    "pick_dtype",
    "quiet",
    "read_base",
    "remove_adapter",
    "require_base",
    "switch_adapter",
    "template_path",
    "trained_quantisation",
    "without_adapter",
]
