"""Options of small and quick trainings."""

from __future__ import annotations

TINY = (
    "--backbone",
    "shufflenet_v2_x0_5",
    "--input-size",
    "32",
    "--epochs",
    "1",
    "--batch-size",
    "4",
)
BOTH = ("--preset", "small", "--loader-workers", "0", "--device", "cpu")
BOTH += tuple(
    f"--{each}.{x[2:]}" if x.startswith("--") else x for each in ("rgb", "flow") for x in TINY
)
QUICK = ("--preset", "small", *TINY, "--loader-workers", "0", "--device", "cpu")
