"""One process per run folder: a second one is refused, with the name of the first."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError
from harness.files import refuse_unwritable

LOCK_FILE = ".lock"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder, which is made if it is missing.

    Uses an advisory lock of the kernel (flock), which ends with its process: nothing has to be
    cleaned up after ``kill -9``. Under torchrun the main process holds it for all. Without flock
    (Windows) nothing is held. Raises HarnessError naming the process that holds the folder.
    """
    if os.environ.get("RANK", "0") != "0" or sys.platform == "win32":
        yield
        return
    import fcntl

    refuse_unwritable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise HarnessError(
            f"cannot write the run's folder: {error.strerror}", where=str(folder)
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(folder, _read(handle)) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, _description().encode("utf-8", "replace"), 0)
        yield
    finally:
        os.close(handle)


def holder_of(folder: Path) -> str:
    """The process that works in a run folder, or ""."""
    if sys.platform == "win32" or not (folder / LOCK_FILE).is_file():
        return ""
    import fcntl

    handle = os.open(folder / LOCK_FILE, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(handle)
    finally:
        os.close(handle)
    return ""


def refuse_if_held(folder: Path) -> None:
    """Raise HarnessError when another process works in the folder, before a model is loaded."""
    if os.environ.get("RANK", "0") == "0" and (holder := holder_of(folder)):
        raise _held(folder, holder)


def _held(folder: Path, holder: str) -> HarnessError:
    return HarnessError(
        f"{holder} is at work in this folder",
        where=str(folder),
        hint="wait for it, or choose another output_dir",
    )


def _read(handle: int) -> str:
    return os.read(handle, 4096).decode("utf-8", "replace").strip() or "another process"


def _description() -> str:
    """What the lock says of this process, in one line."""
    command = " ".join(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]).split())[:200]
    return f"process {os.getpid()} ({command}, since {time.strftime('%Y-%m-%d %H:%M:%S')})"
