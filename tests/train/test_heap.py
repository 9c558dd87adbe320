"""Whether freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from harness.train.heap import keep_heap
if sys.argv[1] == "keep":
    assert keep_heap()
text = b"x" * 2**26
del text
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
text = b"x" * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again_without_a_page_fault():
    faults = {mode: int(subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True).stdout) for mode in ("keep", "give")}
    assert faults["keep"] < 100 < faults["give"]
