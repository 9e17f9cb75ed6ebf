"""What the tests of several modules share."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from flowpipe.cli import main
from tests.helpers.clips import shared_data

# How long an example takes is the machine's affair: on a busy one it says nothing of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Give each worker of pytest-xdist its share of the cores, in its subprocesses too."""
    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        threads = max(len(os.sched_getaffinity(0)) // workers, 1)
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ.setdefault(f"{library}_NUM_THREADS", str(threads))
        threadpool_limits(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests alone, which take minutes, then those of many tests.

    One of them at the end would keep one worker busy while the other has nothing left to do.
    """
    quick = {item.path for item in items if item.get_closest_marker("slow") is None}
    number = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path in quick, -number[item.path], item.path))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real videos and images; tests that need it are skipped where there is none."""
    return shared_data()


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Begin and end each test with the package's logger as it is after an import.

    The command line gives it a handler, which a fixture of a whole module may leave behind.
    """

    def reset() -> None:
        logger = logging.getLogger("flowpipe")
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        logger.handlers = []

    reset()
    yield
    reset()


@pytest.fixture
def run(capsys, no_flushing) -> Callable[..., tuple[int, str]]:
    """Run a command line; returns its exit status and what it said on standard error, as a line."""

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr().err
        return end.value.code, " ".join(re.sub(r"[│╭╮╰╯─]", " ", told).split())

    return run


@pytest.fixture
def no_flushing(monkeypatch) -> None:
    """Do without fsync, which takes most of the time here and is tested with place()."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def not_root() -> Callable[[], AbstractContextManager[None]]:
    """Root may read anything: for as long as this lasts, the process is nobody's."""

    @contextlib.contextmanager
    def nobody() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return nobody


@pytest.fixture
def small_disk(tmp_path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A disk of 64 kB, and what gives it another size."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> bool:
        program = shutil.which("mount")
        line = [program, "-t", "tmpfs", "-o", options, "tmpfs", disk]
        return program is not None and not subprocess.run(line, capture_output=True).returncode

    def resize(size: str) -> None:
        assert mount(f"remount,size={size}")

    if not mount("size=64k"):
        pytest.skip("a small disk cannot be mounted here; that takes root")
    yield disk, resize
    subprocess.run(["umount", disk], check=True)
