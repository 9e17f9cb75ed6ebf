"""Memory between the steps of training."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# In a process of its own, whose memory no test has used before.
STEPS = """
import resource
from pathlib import Path
import torch
from flowpipe.training.memory import kept_memory

SIZE = 64 << 20

def mapped_by_steps(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.empty(SIZE, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

mapped_by_steps(1)
begun = resident()
with kept_memory():
    mapped_by_steps(12)  # until the small pieces beside the arrays are kept as well
    mapped = mapped_by_steps(5)
    kept = resident() - begun
print(mapped * resource.getpagesize() / SIZE, kept / SIZE, (resident() - begun) / SIZE)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_pages_are_kept_within_the_block_only():
    ran = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    mapped, kept, left = map(float, ran.stdout.split())
    assert mapped < 1  # of the 5 arrays
    assert kept > 0.5
    assert left < 0.5
