"""Files and folders that are there whole or not at all, whatever ends the process or the power.

Bytes go to a neighbour with a hidden name, are forced to the disk, and take their place by a rename, which
POSIX makes atomic; then the folder that holds the name is forced to the disk too, or the rename itself
could be lost.

A folder that appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError

_PARTIAL = ".partial-"
_REMOVED = ".removed-"
FREE_SPACE = "free some space and start the same command again: it resumes"


def write_text(path: Path, text: str) -> None:
    """Replace a file's text in one step. Raises OSError and leaves the old file when it cannot."""
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def whole(target: Path, *, what: str, hint: str = FREE_SPACE) -> Iterator[Path]:
    """Give a fresh folder to fill, and put it at ``target`` when the block ends well, in place of what was there.

    Raises HarnessError when the disk is full or cannot be written, and leaves nothing then. safetensors
    reports a full disk by an exception of its own, which is no OSError.
    """
    from safetensors import SafetensorError

    partial = target.with_name(f"{_PARTIAL}{target.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for file in sorted(partial.rglob("*")):
            if file.is_file():
                _sync(file)
        sync_folder(partial)
        remove(target)
        partial.rename(target)
        sync_folder(target.parent)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise HarnessError(
            f"cannot write the {what}: {reason}", where=str(target), hint=hint
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove(folder: Path) -> None:
    """Take a folder away in one step: half of it is never seen under its own name."""
    if not folder.exists():
        return
    away = folder.with_name(f"{_REMOVED}{folder.name}")
    shutil.rmtree(away, ignore_errors=True)
    folder.rename(away)
    shutil.rmtree(away)


def clear_leftovers(folder: Path) -> None:
    """Remove what an earlier process was writing or removing when it ended. Only under the run's lock."""
    for pattern in (f"{_PARTIAL}*", f"{_REMOVED}*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk, where the system can (Windows cannot open a folder)."""
    if os.name == "posix":
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write into that becomes ``target`` when the block ends well, and vanishes when it does not.

    Raises HarnessError when the target exists already and when it cannot be written, such as on a full disk.
    """
    from safetensors import SafetensorError

    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise HarnessError(
            "the folder exists already", where=str(target), hint="choose another --out or remove it"
        )
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync_files(partial)
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        raise HarnessError(
            f"cannot write: {getattr(error, 'strerror', None) or error}",
            where=str(target),
            hint="free some space, or choose another --out",
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync_files(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
