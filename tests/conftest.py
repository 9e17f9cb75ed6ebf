"""What the tests of several modules share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair: on a busy one it says nothing of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real videos and images; tests that need it are skipped where there is none."""
    folder = os.environ.get("FLOWPIPE_TEST_DATA")
    if folder is None:
        pytest.skip("real data are not here: FLOWPIPE_TEST_DATA is not set")
    return Path(folder, "data")


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
