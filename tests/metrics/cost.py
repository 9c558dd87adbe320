"""How long a measure may compute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def computes_within(seconds: float) -> Iterator[None]:
    """Raises AssertionError when this thread computes for longer: a bound against blow-up.

    What else the machine does takes the clock's time, not this one's.
    """
    began = time.thread_time()
    yield
    spent = time.thread_time() - began
    assert spent < seconds, f"{spent:.1f} s of the processor"
