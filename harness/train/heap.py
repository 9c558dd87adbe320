"""Memory that a training process keeps from one step to the next."""

from __future__ import annotations

import ctypes
import sys

#: Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_heap() -> bool:
    """Tell glibc to keep freed memory for the next step. Returns whether it does; other C libraries are left as they are.

    A step takes and frees a gigabyte in pieces of megabytes. By itself glibc returns them to the system, which
    clears every page anew at its next use (docs/log.md). The process stays as large as its largest step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
