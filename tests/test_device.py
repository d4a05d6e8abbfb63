"""What the process does with memory that tensors free."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import psutil, torch
from bench.device import give_back_freed_memory, keep_freed_memory

def left():
    before = psutil.Process().memory_info().rss
    torch.ones(2**26)
    return (psutil.Process().memory_info().rss - before) / 2**28

keep_freed_memory()
kept = left()
give_back_freed_memory()
print(kept, left())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps its own ways")
def test_freed_memory_is_kept_or_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, encoding="utf-8", check=True)
    kept, given_back = map(float, done.stdout.split())
    assert kept > 0.9  # of 256 MiB
    assert given_back < 0.1
