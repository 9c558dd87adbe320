"""The digest of a model's or an adapter's files, whatever their folder is called."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from harness.errors import HarnessError
from harness.files import read_json_object

WEIGHTS = ("*.safetensors", "*.gguf")
_DIGESTED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "adapter_config.json",
)


def digest_folder(folder: Path) -> str:
    """The digest of a model or adapter folder: of its weights, configuration and tokenizer."""
    digest = hashlib.sha256()
    for name in _DIGESTED:
        file = folder / name
        if file.is_file():
            data = read_bytes(file)
            if name == "config.json":  # the path it was loaded from does not count
                facts = read_json_object(file)
                facts.pop("_name_or_path", None)
                data = json.dumps(facts, sort_keys=True).encode()
            digest.update(name.encode() + b"\0" + data)
    for file in sorted(file for pattern in WEIGHTS for file in folder.glob(pattern)):
        digest.update(file.name.encode() + b"\0" + digest_file(file).encode())
    return "sha256:" + digest.hexdigest()[:32]


def read_bytes(file: Path) -> bytes:
    """A file's content. Raises HarnessError when it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(file)) from None


def digest_file(file: Path) -> str:
    """The digest of a file's content."""
    try:
        with file.open("rb") as stream:
            return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()[:32]
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(file)) from None
