"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write into that becomes ``target`` when the block ends well, and vanishes when it does not.

    Raises HarnessError when the target exists already and when it cannot be written, such as on a full disk.
    """
    from safetensors import SafetensorError

    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise HarnessError("the folder exists already", where=str(target), hint="choose another --out or remove it")
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync(partial)
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        raise HarnessError(
            f"cannot write: {getattr(error, 'strerror', None) or error}", where=str(target), hint="free some space, or choose another --out"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
