"""Waiting for other threads and processes, on a machine of any speed: for what they do, never for
how long it takes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

HANG_S = 600.0
"""When to give up on what never comes.

A bound against a test that hangs, and no measure of speed.
"""


def eventually(true: Callable[[], object]) -> None:
    """Wait until a condition holds. Raises AssertionError when it never does."""
    until = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.002)
