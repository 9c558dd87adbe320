"""The files with which a multimodal model prepares images and sound. They stay as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.models import ModelSource

_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "audio_tokenizer_config.json",
    "chat_template.json",
)


def copy_processor(source: ModelSource, folder: Path, *, but: tuple[str, ...] = ()) -> None:
    """Copy those files of a base that it has and that are not in the folder, except ``but``."""
    from transformers.utils import cached_file

    if source.gguf:
        return
    for name in _FILES:
        if name in but or (folder / name).exists():
            continue
        found = cached_file(
            source.path,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found:
            shutil.copyfile(found, folder / name)
