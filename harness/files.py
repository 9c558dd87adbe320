"""Read files that may be damaged, and write files and folders that appear whole or not at all.

A process that is killed, or a power cut, leaves no half of a file behind: the content goes to a
neighbour with a hidden name, is forced to the disk, and takes its place by a rename, which POSIX
makes atomic. Then the folder that holds the name is forced to the disk too, since the rename itself
could still be lost.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

_PARTIAL = ".partial-"
_REMOVED = ".removed-"
FREE_SPACE = "free some space and start the same command again: it resumes"
_SURROGATES = re.compile("[\ud800-\udfff]")


def read_text(path: Path, what: str = "") -> str:
    """The text of a file, without a byte order mark.

    Raises HarnessError, naming ``what`` it is, when it cannot be read or is not UTF-8.
    """
    verb = f"cannot read the {what}" if what else "cannot read"
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise HarnessError(f"{verb}: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        wide = error.start == 0 and error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = "UTF-16, not UTF-8" if wide else f"not UTF-8 at byte {error.start}"
        raise HarnessError(found, where=str(path), hint="save it as UTF-8" * wide) from None
    except ValueError as error:  # a path with a null character
        raise HarnessError(f"{verb}: {error}", where=repr(str(path))) from None


def json_mistake(error: json.JSONDecodeError) -> str:
    """What is wrong with a JSON text, and in which column of its line."""
    return f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises HarnessError naming the file, and the line of a mistake."""
    try:
        return parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise HarnessError(json_mistake(error), where=f"{path}:{error.lineno}") from None
    except ValueError as error:
        raise HarnessError(f"not JSON: {error}", where=str(path)) from None


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises HarnessError as ``read_json``, and for anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise HarnessError("expected one JSON object", where=str(path))
    return value


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for a mistake, and for nesting without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def half_character(text: str) -> str:
    """The first half of a character (a lone surrogate) in a text as ``\\ud83d``, or "".

    No file can hold one. It is left of a text that was cut in the middle of a character.
    """
    found = _SURROGATES.search(text)
    return f"\\u{ord(found[0]):x}" if found else ""


#: Bytes of a value in a GGUF file by its type; texts (8) and lists (9) have lengths of their own.
_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def check_gguf(path: Path) -> None:
    """Raise HarnessError for a GGUF file whose metadata is not whole, after a walk through it.

    The package gguf reads beyond the end of a file without an error: where a damaged number says
    that a list has 10^18 entries, it makes that many. A file of another version is left to it.
    """
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if data[:4] == b"GGUF":
                _walk_gguf(data)
    except (struct.error, ValueError, OverflowError, RecursionError):
        raise HarnessError(
            "cannot read: its metadata is cut or damaged",
            where=str(path),
            hint="copy or download it again",
        ) from None
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(path)) from None


def _walk_gguf(data: mmap.mmap) -> None:
    """Raises struct.error or ValueError where a value would lie outside the file."""
    order = "<" if struct.unpack_from("<I", data, 4)[0] & 0xFFFF else ">"
    count, kind = struct.Struct(f"{order}Q"), struct.Struct(f"{order}I")
    if kind.unpack_from(data, 4)[0] not in (2, 3):
        return

    def text(at: int) -> int:
        return at + 8 + int(count.unpack_from(data, at)[0])

    def value(at: int, of: int) -> int:
        if of == 8:
            return text(at)
        if of != 9:
            if of not in _GGUF_SIZES:
                raise ValueError("unknown type")
            return at + _GGUF_SIZES[of]
        inner, entries = kind.unpack_from(data, at)[0], int(count.unpack_from(data, at + 4)[0])
        at += 12
        if inner in _GGUF_SIZES:
            return at + entries * _GGUF_SIZES[inner]
        for _ in range(entries):
            at = value(at, inner)
        return at

    tensors, settings = count.unpack_from(data, 8)[0], count.unpack_from(data, 16)[0]
    at = 24
    for _ in range(settings):
        at = text(at)
        at = value(at + 4, kind.unpack_from(data, at)[0])
    for _ in range(tensors):
        at = text(at)
        at += 4 + 8 * kind.unpack_from(data, at)[0] + 12
    if at > len(data):
        raise ValueError("it ends early")


def refuse_unwritable(folder: Path, hint: str = "") -> None:
    """Raise HarnessError where a folder is not there and cannot be made, or not be written to.

    For a check before long work. What only shows while writing, such as a full disk, remains.
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not there.is_dir():
        raise HarnessError("a file, where a folder is expected", where=str(there), hint=hint)
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
        if partial.exists():
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
        raise HarnessError(
            "the folder exists already", where=str(target), hint="choose another --out or remove it"
        )
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
    reason = getattr(error, "strerror", None) or error
    return HarnessError(f"cannot write the {what}: {reason}", where=str(path), hint=hint)
