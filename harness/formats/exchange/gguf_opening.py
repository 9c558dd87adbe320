"""Open a GGUF file that may be damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.extras import require
from harness.files import check_gguf

if TYPE_CHECKING:
    from gguf import GGUFReader


@contextmanager
def opened_gguf(path: Path) -> Iterator[GGUFReader]:
    """The reader of the package gguf for this file.

    Raises HarnessError without that package, for a file whose metadata is not whole, and for
    whatever the reader raises inside the block, since it raises anything for a damaged file.
    """
    require("gguf", "reading a GGUF file", str(path))
    from gguf import GGUFReader

    check_gguf(path)
    try:
        yield GGUFReader(path)
    except HarnessError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise HarnessError(f"not a GGUF file, or damaged: {reason}", where=str(path)) from None
