"""The digest of a model's or an adapter's files, whatever their folder is called.

A large file is hashed once: its digest is kept in the cache folder beside what the file system says
of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from harness.errors import HarnessError
from harness.files import read_json_object, write_text
from harness.run_file import ADAPTER_CONFIG

WEIGHTS = ("*.safetensors", "*.gguf")
_DIGESTED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    ADAPTER_CONFIG,
)
#: Smaller files are hashed every time: it takes less than a tenth of a second.
KEPT_FROM = 64 * 2**20
#: A file that changed this shortly before it was hashed may change again without a new time stamp,
#: as in Git's index (gitformat-index, "racy git").
_SETTLED_NS = 2_000_000_000


def cache_dir() -> Path:
    """Where converted models and digests are kept: ``$HARNESS_CACHE``, else the user's cache."""
    if chosen := os.environ.get("HARNESS_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


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
    """The digest of a file's content; a large one's from the cache, unless the file has changed."""
    try:
        found = file.stat()
        if found.st_size < KEPT_FROM:
            return _hash(file)
        state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        changed = max(found.st_mtime_ns, found.st_ctime_ns)
        entry = _entry(file)
        if (kept := _kept(entry, state)) is not None:
            return kept
        settled = time.time_ns() - changed > _SETTLED_NS
        digest = _hash(file)
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(file)) from None
    if settled:
        _keep(entry, file, state, digest)
    return digest


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def _entry(file: Path) -> Path:
    """Where a file's digest is kept: one small file each, so that processes do not wait."""
    name = hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:32]
    return cache_dir() / "digests" / f"{name}.json"


def _kept(entry: Path, state: list[int]) -> str | None:
    """The digest in an entry, when the file is in the state in which it was hashed."""
    try:
        facts = json.loads(entry.read_text(encoding="utf-8"))
        return str(facts["digest"]) if facts["state"] == state else None
    except (OSError, ValueError, TypeError, KeyError):  # none there, or damaged: hash again
        return None


def _keep(entry: Path, file: Path, state: list[int], digest: str) -> None:
    facts = {"path": str(file.resolve()), "state": state, "digest": digest}
    try:
        write_text(entry, json.dumps(facts))
    except (OSError, HarnessError):  # a read-only home: it is hashed again next time
        return
