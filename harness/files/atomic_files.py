"""Write files and folders that appear whole or not at all.

A process that is killed, or a power cut, leaves no half of a file behind: the content goes to a
neighbour with a hidden name, is forced to the disk, and takes its place by a rename, which POSIX
makes atomic. Then the folder that holds the name is forced to the disk too, since the rename itself
could still be lost.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

_PARTIAL = ".partial-"
_REMOVED = ".removed-"
_FILE_NO_FOLDER = "a file, where a folder is expected"
FREE_SPACE = "free some space and start the same command again: it resumes"


def refuse_unwritable(folder: Path, hint: str = "") -> None:
    """Raise HarnessError where a folder is not there and cannot be made, or not be written to.

    For a check before long work. What only shows while writing, such as a full disk, remains.
    """
    there = _existing(folder)
    if not there.is_dir():
        raise HarnessError(_FILE_NO_FOLDER, where=str(there), hint=hint)
    if not os.access(there, os.W_OK):
        raise HarnessError("the folder may not be written to", where=str(there), hint=hint)


def write_text(path: Path, text: str, *, what: str = "file", hint: str = "") -> None:
    """Replace a file's text in one step, with ``\\n`` as line end. Raises as ``atomic_file``.

    Half of a character, which UTF-8 lacks, is written as ``\\ud83d``, as JSON does.
    """
    with atomic_file(path, what=what, hint=hint) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


@contextmanager
def atomic_file(path: Path, *, what: str = "file", hint: str = "") -> Iterator[Path]:
    """Give a path to write to; the file there becomes ``path`` when the block ends well.

    Folders above it are made. Raises HarnessError naming ``what`` when it cannot be written, and
    leaves the old file then.
    """
    partial = _hidden(_PARTIAL, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _sync(partial)
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(what, error, path, hint) from None
    finally:
        with suppress(OSError):  # no such file, or a folder that is closed: the error above says so
            partial.unlink()


@contextmanager
def atomic_folder(
    target: Path, *, what: str = "folder", hint: str = FREE_SPACE, replace: bool = True
) -> Iterator[Path]:
    """Give a fresh folder to fill; it becomes ``target`` when the block ends well.

    With ``replace`` it takes the place of what was there. Raises HarnessError naming ``what`` when
    the disk is full or cannot be written, and without ``replace`` when ``target`` is there and not
    an empty folder. Nothing is left behind then.
    """
    if not replace and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        message = "the folder exists already" if target.is_dir() else _FILE_NO_FOLDER
        raise HarnessError(message, where=str(target), hint="choose another --out or remove it")
    partial = _hidden(_PARTIAL, target)
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
    except Exception as error:
        if not isinstance(error, (OSError, *_safetensors_errors())):
            raise
        raise _unwritable(what, error, target, hint) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def new_folder(target: Path) -> AbstractContextManager[Path]:
    """An ``atomic_folder`` for a user's --out, which must not exist yet."""
    hint = "free some space, or choose another --out"
    return atomic_folder(target, hint=hint, replace=False)


def remove(folder: Path) -> None:
    """Remove a folder in one step: half of it is never seen under its own name."""
    if not folder.exists():
        return
    away = _hidden(_REMOVED, folder)
    shutil.rmtree(away, ignore_errors=True)
    folder.rename(away)
    shutil.rmtree(away)


def clear_leftovers(folder: Path) -> None:
    """Remove what an earlier process was writing or removing when it ended.

    Only for a folder that no other process writes to.
    """
    for pattern in (f"{_PARTIAL}*", f"{_REMOVED}*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that is kept open, to notice when its name leads to it no longer."""

    path: Path
    identity: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> OpenedFile:
        """Remember which file is at this path now."""
        return cls(path, _identity(path))

    def refuse_if_removed(self, what: str) -> None:
        """Raise HarnessError when the file was removed or replaced: nobody could find the rest."""
        try:
            same = _identity(self.path) == self.identity
        except OSError:
            same = False
        if not same:
            raise HarnessError(
                f"the {what} was removed while it was in use",
                where=str(self.path),
                hint="start the same command again: it computes what is missing",
            )


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk, where the system can (Windows cannot open a folder)."""
    if os.name == "posix":
        _sync(folder)


def _existing(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    return next((one for one in (path, *path.parents) if one.exists()), Path())


def _hidden(prefix: str, path: Path) -> Path:
    """A neighbour of ``path`` that no other process writes to."""
    return path.with_name(f"{prefix}{os.getpid()}-{path.name}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _safetensors_errors() -> tuple[type[Exception], ...]:
    """safetensors reports a full disk by an exception of its own, which is not an OSError."""
    module = sys.modules.get("safetensors")
    return (module.SafetensorError,) if module else ()


def _unwritable(what: str, error: Exception, path: Path, hint: str) -> HarnessError:
    if isinstance(error, IsADirectoryError):
        return HarnessError("a folder, where a file is expected", where=str(path), hint=hint)
    if isinstance(error, FileExistsError | NotADirectoryError):
        there = _existing(path.parent)
        if not there.is_dir():
            return HarnessError(_FILE_NO_FOLDER, where=str(there), hint=hint)
    reason = getattr(error, "strerror", None) or error
    return HarnessError(f"cannot write the {what}: {reason}", where=str(path), hint=hint)
