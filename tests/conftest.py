"""What the tests of several modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real videos and images; tests that need it are skipped where there is none."""
    folder = os.environ.get("FLOWPIPE_TEST_DATA")
    if folder is None:
        pytest.skip("real data are not here: FLOWPIPE_TEST_DATA is not set")
    return Path(folder, "data")
