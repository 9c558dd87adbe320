"""How long an OpenMP thread that waits keeps its core.

Torch's CPU work runs on OpenMP threads. At the end of every parallel region, and at every barrier
in one, a thread that is done spins for a while before it sleeps, because waking it costs more than
a short wait. Beside other work, the thread it waits for is often not running: then the spinning
takes the very core that it needs.

Measured on two cores (docs/performance.md, benchmarks/threads.py): beside one busy process a
training takes 3.0 times as long with libgomp's own setting, and 1.9 times with 2000 turns; beside
two, 5.8 and 2.4 times; alone, 2000 costs 6 %. An evaluation beside one takes 3.7 and 2.1 times as
long.

A runtime reads its variables once, when torch loads it, so this comes before ``import torch``.
"""

from __future__ import annotations

import os
import sys

_SPINNING = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}
"""The variable of each runtime; each ignores the other's.

libgomp (in the Linux wheels) counts turns of its loop; its own value is 300 000. libomp and
libiomp5 (in the macOS and Windows wheels, and in conda's torch) count milliseconds; their own value
is 200, and 0 on processors with two kinds of cores. 1 ms is nearest to 2000 turns; it was not
measured.
"""
_DECIDED = (*_SPINNING, "KMP_LIBRARY", "OMP_WAIT_POLICY")
"""A user who sets one of these has decided. OMP_WAIT_POLICY is the standard's, for all runtimes."""


def limit_spinning() -> bool:
    """Let waiting threads sleep soon, in this process and in those that it starts.

    Returns whether it was set. Nothing is changed when the user has set how threads wait, or when
    torch is loaded already.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _DECIDED):
        return False
    os.environ.update(_SPINNING)
    return True
