"""Memory between the steps of training."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from flowpipe.training.memory import kept_memory

SIZE = 64 << 20


def mapped_by_steps(count: int) -> int:
    """Return how many pages are mapped for an array that is freed and asked for again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.empty(SIZE, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_pages_are_kept_within_the_block_only():
    pages = SIZE // resource.getpagesize()
    begun = resident()
    with kept_memory():
        mapped_by_steps(12)  # until the small pieces beside the arrays are kept as well
        assert mapped_by_steps(5) < pages
        assert resident() > begun + SIZE // 2
    assert resident() < begun + SIZE // 2
