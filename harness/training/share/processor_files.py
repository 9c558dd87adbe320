"""The files with which a multimodal model prepares images and sound. They stay as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.models import ModelSource
from harness.models.source import PROCESSOR_TEMPLATE, optional_file

_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "audio_tokenizer_config.json",
    PROCESSOR_TEMPLATE,
)


def copy_processor(source: ModelSource, folder: Path, *, but: tuple[str, ...] = ()) -> None:
    """Copy those files of a base that it has and that are not in the folder, except ``but``."""
    if source.gguf:
        return
    for name in _FILES:
        wanted = name not in but and not (folder / name).exists()
        if wanted and (file := optional_file(source, name)):
            shutil.copyfile(file, folder / name)
